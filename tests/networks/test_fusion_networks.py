"""The networks of the papers: their size, what they compute, how far they look."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from geofuse.networks.blocks import ChannelNorm, Draws, channel_moments, unfolded
from geofuse.networks.edcstfn import REACH, EDCSTFNNetwork
from geofuse.networks.fusion_unet import FusionUNetNetwork, _styled
from geofuse.networks.fusion_unet import reach as unet_reach
from geofuse.networks.ganstfm import GANSTFMGenerator
from geofuse.networks.ganstfm import reach as ganstfm_reach
from geofuse.networks.parameters import arrays_of
from geofuse.networks.swinstfm import SwinLayout, SwinSTFMNetwork, _folded
from geofuse.networks.window_attention import ChangeAttention, SelfAttention, SelfBlock
from geofuse.spatiotemporal import LEARNED
from tests.oracles import networks as oracle

#: Parameters of the authors' networks with 6 bands, in millions, from their constructors.
AUTHORS = {
    "edcstfn": 0.284,
    "gan-stfm": 0.578,
    "fusion-unet": 5.9,
    "local-attention-net": 37.5,
}


def images(*shape, count=3, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(count)]


def numbers_in(make):
    state = nnx.state(nnx.eval_shape(make), nnx.Param)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", LEARNED)
def test_the_full_size_is_that_of_the_authors(name):
    method = LEARNED[name](size="full")
    count = numbers_in(partial(method.network, 6))
    assert abs(count / 1e6 / AUTHORS[name] - 1) < 0.1
    assert f"{count:,} parameters" in type(method).__doc__
    small = numbers_in(partial(LEARNED[name](size="small").network, 6))
    assert small < count / 3


def test_edcstfn_is_what_the_paper_says():
    network = EDCSTFNNetwork(2, (3, 4, 5), zero=False, draws=Draws(1))
    scene = images(1, 9, 7, 2)
    found = network(*scene)[0]
    expected = oracle.edcstfn(arrays_of(network), *(np.asarray(i[0]) for i in scene))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_generator_of_ganstfm_is_what_the_paper_says():
    network = GANSTFMGenerator(2, (4, 3), zero=False, draws=Draws(1))
    fine, base, coarse = images(1, 9, 7, 2)
    found = network(fine, base, coarse)[0]
    arrays = {name: np.asarray(a) for name, a in arrays_of(network).items()}
    expected = oracle.ganstfm(arrays, 2, np.asarray(fine[0]), np.asarray(coarse[0]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The coarse image of the base date is not looked at.
    np.testing.assert_array_equal(network(fine, base + 1, coarse)[0], found)


def compiled(network):
    return jax.jit(lambda *args: network(*args))


def changed_by_one_pixel(run, side, place):
    """Rows and columns of the output that change if one pixel of all images does."""
    scene = images(1, side, side, 2)
    other = [image.at[0, place, place].add(3.0) for image in scene]
    difference = np.abs(run(*scene) - run(*other)).max(axis=(0, 3))
    return np.nonzero(difference)


@pytest.mark.parametrize(
    ("make", "reach"),
    [
        (partial(EDCSTFNNetwork, 2, (3, 4, 5)), REACH),
        (partial(GANSTFMGenerator, 2, (4, 8, 4)), ganstfm_reach(3)),
    ],
)
def test_a_network_looks_no_further_than_its_reach(make, reach):
    run = compiled(make(zero=False, draws=Draws(0)))
    for found in changed_by_one_pixel(run, 41, 20):
        assert (found.min(), found.max()) == (20 - reach, 20 + reach)


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 8)])
def test_the_unet_looks_no_further_than_its_reach(widths):
    run = compiled(FusionUNetNetwork(2, widths, zero=False, draws=Draws(0)))
    reach, deepest = unet_reach(len(widths)), 2 ** (len(widths) - 1)
    side = 2 * reach + 2 * deepest
    farthest = 0
    for place in range(side // 2, side // 2 + deepest):
        for found in changed_by_one_pixel(run, side, place):
            farthest = max(farthest, place - found.min(), found.max() - place)
    # It is rounded up to whole pixels of the deepest level, and need not be exact.
    assert reach - 3 * deepest <= farthest <= reach


def test_the_unet_is_the_same_from_one_whole_stride_to_the_next():
    run = compiled(FusionUNetNetwork(2, (4, 8, 8), zero=False, draws=Draws(0)))
    scene = images(1, 100, 100, 2)
    whole = run(*(image[:, :96, :96] for image in scene))[0]
    for by, same in ((4, True), (2, False)):
        part = run(*(image[:, by : by + 96, by : by + 96] for image in scene))[0]
        inner = slice(44, 52)
        shifted = whole[by + 44 : by + 52, by + 44 : by + 52]
        assert np.allclose(part[inner, inner], shifted, atol=1e-5) == same


def test_a_pixel_of_swinstfm_depends_on_its_patch_alone():
    layout = SwinLayout(width=8, depths=(2,), head=4, window=4, patch=16)
    run = compiled(SwinSTFMNetwork(2, layout, zero=False, draws=Draws(0)))
    # A patch starts every 8 pixels, and its middle of 8 pixels counts: pixel 21 lies in the
    # patches that start at 8 and at 16, of which 12 to 28 is seen.
    for found in changed_by_one_pixel(run, 40, 21):
        assert (found.min(), found.max()) == (12, 27)
    edge = run(*images(1, 40, 40, 2))[0, :, :4]
    np.testing.assert_array_equal(edge, 0)


def test_self_attention_matches_loops():
    layer = SelfAttention(6, 2, 3, draws=Draws(2))
    (values,) = images(1, 9, 6, count=1)
    found = layer(values, jnp.zeros((1, 9, 9), bool))[0]
    table = np.asarray(layer.nearness.table[...])

    def nearness(head, i, j):
        dy, dx = i // 3 - j // 3, i % 3 - j % 3
        return table[(dy + 2) * 5 + dx + 2, head]

    query, key, value = np.split(np.asarray(layer.qkv(values)[0]), 3, axis=-1)
    _, expected = oracle.attention(query, key, value, 2, nearness)
    np.testing.assert_allclose(found, layer.out(jnp.asarray(expected, "f4")), atol=1e-5)


def test_a_change_is_weighted_by_two_likenesses():
    layer = ChangeAttention(4, 1, 2, draws=Draws(3))
    layer.nearness.table[...] = jnp.zeros_like(layer.nearness.table[...])
    change, fine, base, coarse = images(1, 4, 4, count=4)
    found = layer(change, fine, base, coarse, jnp.zeros((1, 4, 4), bool))[0]
    weights = [
        oracle.attention(*(np.asarray(a[0]) for a in (q, k, k)), 1, lambda *_: 0.0)[0]
        for q, k in (
            (layer.fine_query(base), layer.fine_key(fine)),
            (layer.coarse_query(base), layer.coarse_key(coarse)),
        )
    ]
    weight = weights[0][0] * weights[1][0] + 1e-6
    weight /= weight.sum(axis=-1, keepdims=True)
    expected = weight @ np.asarray(layer.value(change)[0])
    np.testing.assert_allclose(found, layer.out(jnp.asarray(expected, "f4")), atol=1e-5)


@pytest.mark.parametrize(
    ("shift", "place", "seen"), [(0, 5, (4, 8)), (2, 5, (2, 6)), (2, 1, (0, 2))]
)
def test_a_block_attends_within_its_window_and_never_around_the_edge(
    shift, place, seen
):
    block = SelfBlock(4, 2, 4, shift=shift, draws=Draws(0))
    (values,) = images(1, 8, 8, 4, count=1)
    # One channel alone: what is added to all of them, the norm takes off again.
    other = values.at[0, place, place, 0].add(1.0)
    difference = np.abs(block(values) - block(other)).max(axis=(0, 3))
    for found in np.nonzero(difference):
        assert (found.min(), found.max() + 1) == seen


def test_channels_are_normalized_pixel_by_pixel():
    values, style = images(1, 3, 3, 16, count=2)
    norm = ChannelNorm(16)
    found = norm(values)
    np.testing.assert_allclose(found.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=-1), 1, atol=1e-3)
    # Features take the moments of others, at each pixel.
    for one, other in zip(
        channel_moments(_styled(values, style)), channel_moments(style), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_folding_and_unfolding_put_the_pixels_back():
    (values,) = images(2, 4, 6, 3, count=1)
    folded = _folded(values).reshape(2, 2, 3, 4, 3)
    # `unfolded` takes the place of a pixel from the slowest part of the channels.
    np.testing.assert_array_equal(unfolded(folded.reshape(2, 2, 3, 12)), values)


def test_the_same_seed_draws_the_same_numbers_and_none_draws_none():
    make = partial(EDCSTFNNetwork, 2, (3, 4, 5), zero=True)
    first, second, other, empty = (
        arrays_of(make(draws=Draws(seed))) for seed in (0, 0, 1, None)
    )
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        assert not np.any(empty[name])
    name = "encoder.layers.1.kernel"
    assert not np.array_equal(first[name], other[name])
    # As many as meet in one result: 9 x 3 numbers of variance 1 / 27.
    assert abs(float(first[name].std()) * 27**0.5 - 1) < 0.3
    assert not np.any(first["last.kernel"])
