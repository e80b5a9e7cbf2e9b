"""Methods whose prediction is a network's: their unit, their fit, their strides."""

import dataclasses

import numpy as np
import pytest

from geofuse.errors import BandMismatchError, NotFittedError, ParameterError
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.saved import load, save
from geofuse.spatiotemporal import LEARNED
from geofuse.spatiotemporal.baselines import Persistence
from geofuse.spatiotemporal.edcstfn import EDCSTFN
from geofuse.spatiotemporal.fusion_unet import FusionUNet
from geofuse.spatiotemporal.learned import scene_scale
from geofuse.spatiotemporal.local_attention_net import LocalAttentionNet
from geofuse.spatiotemporal.method import _predict
from geofuse.synthetic import simulate_case
from geofuse.training.loop import Training
from geofuse.training.watching import watching
from tests.contracts.drawn import drawn

NOTHING = Training(steps=0, batch=2, patch=32)
SMALL = EDCSTFN(size="small")

every_kind = pytest.mark.parametrize("kind", LEARNED.values(), ids=list(LEARNED))


def case_of(size=64, *, bands=("red", "nir"), scale=8, **options):
    return simulate_case(size, bands=bands, scale=scale, **options)


def changed(inputs, change, *, scale=None, offset=None):
    pairs = [Pair(change(pair.fine), change(pair.coarse)) for pair in inputs.pairs]
    return FusionInputs(pairs, change(inputs.coarse), scale, offset)


def image(method, inputs, **options):
    return method.predict(inputs, outputs=("reflectance",), **options)[
        "reflectance"
    ].values


def test_the_unit_of_a_scene_is_deaf_to_a_few_clouds():
    inputs = case_of(96, noise=0.0).inputs
    plain = scene_scale(inputs).compute()

    def cloudy(images):
        values = images.values.copy()
        values[:, :10, :9] = 1.0
        values[:, 50:60, :9] = np.nan
        return images.copy(data=values)

    found = scene_scale(changed(inputs, cloudy, scale=8)).compute()
    np.testing.assert_allclose(found.level, plain.level, atol=0.02)
    np.testing.assert_allclose(found.spread, plain.spread, rtol=0.1)
    fine = inputs.pairs[0].fine.values.reshape(2, -1)
    np.testing.assert_allclose(plain.level, np.median(fine, axis=1), atol=1e-6)
    # Chunks and a second pair of the same pixels change nothing.
    lazy = changed(inputs, lambda i: i.chunk({"band": 1, "y": 17, "x": 40}), scale=8)
    np.testing.assert_array_equal(scene_scale(lazy).compute(), plain)


@pytest.mark.parametrize(
    ("value", "level", "spread"), [(0.25, 0.25, 0.25), (0.0, 0, 1), (np.nan, 0, 1)]
)
def test_a_band_without_spread_is_measured_in_its_level(value, level, spread):
    flat = changed(case_of(32).inputs, lambda i: i * 0 + np.float32(value), scale=8)
    found = scene_scale(flat).compute()
    np.testing.assert_array_equal(found.level, np.float32([level] * 2))
    np.testing.assert_array_equal(found.spread, np.float32([spread] * 2))


@every_kind
def test_before_the_first_step_nothing_has_changed(kind):
    case = case_of()
    method = kind(size="small", training=NOTHING).fit([case])
    assert method.bands == ("red", "nir")
    expected = image(Persistence(), case.inputs)
    np.testing.assert_array_equal(image(method, case.inputs), expected)


def test_a_method_that_was_not_fitted_says_what_to_write():
    inputs = case_of(32).inputs
    SMALL.check(inputs)  # it may be fitted to them
    with pytest.raises(NotFittedError, match=r"method = EDCSTFN\(\)\.fit\(cases\)"):
        SMALL.predict(inputs)


def test_other_bands_than_learned_are_refused():
    method = drawn(SMALL, ("red", "nir"))
    other = case_of(32, bands=("green", "nir")).inputs
    with pytest.raises(BandMismatchError, match=r"\('red', 'nir'\), found \('green'"):
        method.predict(other)
    turned = changed(case_of(32).inputs, lambda i: i.isel(band=[1, 0]), scale=8)
    with pytest.raises(BandMismatchError, match=r"image\.sel\(band=\['red', 'nir'\]\)"):
        method.predict(turned)
    cases = [case_of(), case_of(bands=("red", "nir", "swir1"))]
    with pytest.raises(BandMismatchError, match="one set of bands"):
        dataclasses.replace(SMALL, training=NOTHING).fit(cases)
    with pytest.raises(BandMismatchError, match="one set of bands"):
        method.fit(cases[1:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "tiny"}, "size to be 'full' or 'small', found 'tiny'"),
        ({"predicts": "both"}, "predicts to be 'change' or 'image', found 'both'"),
        ({"bands": ("red",)}, "weights and the bands they were learned with"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    method = EDCSTFN()
    # Around the constructor: the tests' type checker would refuse the words before us.
    for name, value in fields.items():
        object.__setattr__(method, name, value)
    with pytest.raises(ParameterError, match=message):
        method.__post_init__()


@pytest.mark.parametrize(
    ("method", "patch", "fitting"),
    [(FusionUNet(size="small"), 34, 36), (LocalAttentionNet(), 16, 32)],
)
def test_patches_must_be_whole_strides(method, patch, fitting):
    method = dataclasses.replace(method, training=Training(patch=patch))
    with pytest.raises(
        ParameterError, match=rf"found {patch}; write .*patch={fitting}\)"
    ):
        method.fit([case_of()])


def test_no_case_is_refused():
    with pytest.raises(ParameterError, match="at least one case"):
        SMALL.fit([])


def test_training_makes_it_better_than_no_change_and_goes_on_from_there():
    # Everything gets brighter by as much as the coarse images say.
    case = case_of(96, noise=0.0)
    pair = case.inputs.pairs[0]
    wanted = case.inputs.coarse.assign_coords(time=case.inputs.coarse.time)
    coarse = wanted.copy(data=pair.coarse.values + np.float32(0.1))
    inputs = FusionInputs([pair], coarse, 8)
    truth = case.reference.copy(data=pair.fine.values + np.float32(0.1))
    training = Training(
        steps=60, batch=4, patch=32, learning_rate=1e-2, warmup=5, average=0.9,
        validate_every=20,
    )  # fmt: skip
    with watching() as watch:
        method = dataclasses.replace(SMALL, training=training).fit(
            [FusionCase(inputs, truth)], seed=1
        )
    (history,) = watch.histories
    scores = [score for _, score in history.validations]
    assert min(scores) < 0.5 * scores[0]
    error = np.abs(image(method, inputs) - truth.values).mean()
    assert error < 0.05
    more = dataclasses.replace(method, training=dataclasses.replace(training, steps=0))
    assert more.fit([FusionCase(inputs, truth)]).weights == method.weights


def test_the_image_itself_is_predicted_where_that_is_asked_for():
    inputs = case_of(48).inputs
    method = drawn(dataclasses.replace(SMALL, predicts="image"), share=0.0)
    level = scene_scale(inputs).compute().level
    found = image(method, inputs)
    np.testing.assert_allclose(
        found, np.broadcast_to(level[:, None, None], found.shape), rtol=1e-6
    )


def test_a_base_date_that_looks_like_the_prediction_date_has_the_most_weight():
    case = case_of(pairs=2, noise=0.0)
    first, second = case.inputs.pairs
    coarse = case.inputs.coarse.copy(data=second.coarse.values)
    hole = second.fine.copy(data=second.fine.values.copy())
    hole.values[:, 40:50, 20:30] = np.nan
    inputs = FusionInputs([first, Pair(hole, second.coarse)], coarse, 8)
    method = drawn(SMALL, share=0.0)
    product = method.predict(inputs, outputs=("reflectance", "pair")).compute()
    expected = np.where(np.isnan(hole), first.fine, hole)
    np.testing.assert_allclose(product.reflectance, expected, atol=1e-6)
    assert (product.pair == np.where(np.isnan(hole[0]), 1, 2)).all()


@pytest.mark.parametrize("kind", [FusionUNet, LocalAttentionNet])
@pytest.mark.parametrize(("scale", "offset"), [(6, (1, 4)), (None, None)])
def test_strides_fall_on_the_same_pixels_in_every_tile(kind, scale, offset):
    method = drawn(kind(size="small"), share=0.3)
    case = simulate_case(100, bands=("red", "nir"), scale=scale or 8, clouds=0.1)
    rows, columns = (slice((-o) % (scale or 1), 97) for o in offset or (0, 0))

    def cut(images):
        part = images.isel(y=rows, x=columns)
        return part.assign_attrs(scale=None) if scale is None else part

    inputs = changed(case.inputs, cut, scale=scale, offset=offset)
    assert inputs.scale == scale
    whole = image(method, inputs, tile=None)
    span = np.nanmax(whole) - np.nanmin(whole)
    tiled = image(method, inputs, tile=method.stride)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6 * span)
    if scale is None:
        # Negative control: strides that start elsewhere see other pixels together.
        other = image(method, changed(inputs, lambda i: i.isel(y=slice(1, None))))
        assert np.nanmax(np.abs(other - whole[:, 1:])) > 1e-3 * span


def test_weights_are_not_compiled_in():
    inputs = case_of(48).inputs
    _predict.clear_cache()
    first, second = (image(drawn(SMALL, seed=seed), inputs) for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert _predict._cache_size() == 1


def test_a_saved_method_predicts_the_same(tmp_path):
    method = drawn(SMALL)
    again = load(save(method, tmp_path / "model"))
    assert again == method
    inputs = case_of(48).inputs
    np.testing.assert_array_equal(image(again, inputs), image(method, inputs))


def test_the_full_size_is_the_default_where_a_processor_can_train_it():
    sizes = {name: kind().size for name, kind in LEARNED.items()}
    assert sizes.pop("local-attention-net") == "small"
    assert set(sizes.values()) == {"full"}
