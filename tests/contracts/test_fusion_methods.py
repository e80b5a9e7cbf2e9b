"""What every fusion method promises, checked for all of them.

A new method is one line in `METHODS_UNDER_CONTRACT`; one that learns is given numbers at
random (`drawn.py`).
"""

import dataclasses
import os

import dask
import dask.array as da
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from dask.distributed import Client, LocalCluster

import geofuse
from geofuse.errors import (
    MissingScaleError,
    ParameterError,
    TooFewPairsError,
    UnknownNameError,
)
from geofuse.pairs import FusionInputs, Pair
from geofuse.rasters.grid import grid_of
from geofuse.spatiotemporal import LEARNED, METHODS
from geofuse.spatiotemporal.baselines import (
    BandLine,
    CoarseChange,
    CoarseImage,
    LinearInTime,
    Persistence,
)
from geofuse.spatiotemporal.combine import PrecisionFusion
from geofuse.spatiotemporal.edcstfn import EDCSTFN
from geofuse.spatiotemporal.estarfm import ESTARFM
from geofuse.spatiotemporal.fitfc import FitFC
from geofuse.spatiotemporal.fsdaf import FSDAF
from geofuse.spatiotemporal.fusion_unet import FusionUNet
from geofuse.spatiotemporal.ganstfm import GANSTFM
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.learned import NetworkMethod
from geofuse.spatiotemporal.local_attention_net import LocalAttentionNet
from geofuse.spatiotemporal.method import OUTPUTS, FusionTile, Scale, _predict
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.spatiotemporal.object_fitfc import ObjectFitFC
from geofuse.spatiotemporal.spectral_line import SpectralLine
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.spatiotemporal.ubestarfm import UbESTARFM
from geofuse.spatiotemporal.unmixing import Unmixing
from geofuse.synthetic import simulate_case
from geofuse.training.loop import Training
from tests.contracts.drawn import drawn

#: Enough of a training to see that there is one.
SHORT = Training(steps=2, batch=2, patch=32, warmup=0, average=0.0, validate_every=1)

#: One small configuration or more of every method.
METHODS_UNDER_CONTRACT = (
    STARFM(radius=3),
    STARFM(radius=2, rules="paper", classes=4),
    STARFM(radius=2, rules="usda", classes=40),
    Persistence(),
    CoarseImage(),
    CoarseChange(),
    CoarseChange(upsample="bicubic"),
    LinearInTime(),
    BandLine(),
    SpectralLine(),
    ESTARFM(radius=3),
    UbESTARFM(radius=2),
    FitFC(radius=5, similar=4, coarse_radius=1),
    ObjectFitFC(segment=4, steps=2, coarse_radius=1),
    FSDAF(radius=3, similar=4, classes=3),
    Unmixing(classes=3, coarse_radius=1),
    PrecisionFusion(
        methods=(
            STARFM(radius=2),
            CoarseChange(upsample="bicubic"),
            LinearInTime(),
        ),
        samples=3,
    ),
    KernelNet(radius=3, weights=None, training=SHORT),
    MixtureNet(
        experts=(Persistence(), CoarseChange(upsample="bicubic"), STARFM(radius=2)),
        width=8,
        heads=2,
        weights=None,
        training=SHORT,
    ),
    EDCSTFN(size="small", training=SHORT),
    # Minutes of compiling: with GEOFUSE_ALL_CONTRACTS=1.
    *(
        (
            GANSTFM(size="small", training=SHORT),
            FusionUNet(size="small", training=SHORT),
            LocalAttentionNet(size="small", training=SHORT),
        )
        if os.environ.get("GEOFUSE_ALL_CONTRACTS")
        else ()
    ),
)

#: Convolutions and products of matrices are summed in an order that suits the size of the
#: window: networks agree to a few roundings, as a share of the range, not to the bit.
ROUNDING = 1e-6


def name_of(method):
    return type(method).__name__ if learns(method) else repr(method)


@pytest.fixture
def method(request):
    return drawn(request.param)


all_methods = pytest.mark.parametrize(
    "method", METHODS_UNDER_CONTRACT, ids=name_of, indirect=True
)
learned_methods = pytest.mark.parametrize(
    "method",
    [method for method in METHODS_UNDER_CONTRACT if type(method) in LEARNED.values()],
    ids=name_of,
    indirect=True,
)


def inputs_of(size=60, *, pairs=2, clouds=0.1, scale=8, seed=0):
    case = simulate_case(
        size, bands=("red", "nir"), pairs=pairs, clouds=clouds, scale=scale, seed=seed
    )
    return case.inputs


def changed(inputs, change):
    """The inputs with every image replaced by `change(image)`."""
    pairs = [Pair(change(pair.fine), change(pair.coarse)) for pair in inputs.pairs]
    return FusionInputs(pairs, change(inputs.coarse), inputs.scale, inputs.offset)


def lazy(inputs, chunks=37):
    return changed(inputs, lambda image: image.chunk({"band": 1, "y": chunks, "x": 29}))


def everything(method, inputs, **options):
    return method.predict(inputs, outputs=tuple(OUTPUTS), **options)


def assert_same(first, second):
    for name in OUTPUTS:
        np.testing.assert_array_equal(first[name].values, second[name].values)


def learns(method):
    return isinstance(method, KernelNet | MixtureNet | NetworkMethod)


def unfitted(method):
    """A method that learns, without what it has learned."""
    if isinstance(method, NetworkMethod):
        return dataclasses.replace(method, weights=None, bands=None)
    return dataclasses.replace(method, weights=None) if learns(method) else method


def assert_same_at_any_tile_size(method, first, second):
    if not learns(method):
        return assert_same(first, second)
    image = second.reflectance
    size = float(image.max() - image.min())
    for name in OUTPUTS:
        if name in ("aleatoric", "epistemic"):
            atol = ROUNDING * size**2
        elif OUTPUTS[name][0]:
            atol = 3 * ROUNDING * size
        else:
            atol = 0
        np.testing.assert_allclose(
            first[name].values, second[name].values, rtol=1e-4 * bool(atol), atol=atol
        )
    return None


@pytest.fixture(scope="module")
def cluster():
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as running,
        Client(running, set_as_default=False) as client,
    ):
        yield client


def test_every_method_is_under_contract():
    known = {*METHODS.values(), *LEARNED.values()}
    if not os.environ.get("GEOFUSE_ALL_CONTRACTS"):
        known -= {GANSTFM, FusionUNet, LocalAttentionNet}
    assert {type(method) for method in METHODS_UNDER_CONTRACT} == known


@all_methods
@pytest.mark.parametrize("pairs", [1, 2])
def test_tile_size_never_changes_the_result(method, pairs):
    if pairs < method.pairs_needed:
        pytest.skip(f"needs {method.pairs_needed} pairs")
    inputs = lazy(inputs_of(150, pairs=pairs))
    inputs = changed(inputs, lambda image: image.isel(y=slice(0, 131)))
    whole = everything(method, inputs, tile=None).compute()
    assert np.isfinite(whole.reflectance).mean() > 0.5
    for tile in (40, 100):
        tiled = everything(method, inputs, tile=tile).compute()
        assert_same_at_any_tile_size(method, tiled, whole)


@all_methods
def test_nothing_is_computed_before_it_is_asked_for(method):
    inputs = inputs_of(48)
    reads = []

    def unread(image):
        def read(block):
            reads.append(block.shape)
            return block

        data = da.from_array(image.values, chunks=(2, 20, 20))
        meta = np.empty((0, 0, 0), np.float32)
        return image.copy(data=data.map_blocks(read, dtype=np.float32, meta=meta))

    product = everything(method, changed(inputs, unread))
    assert not reads
    assert all(isinstance(v.data, da.Array) for v in product.data_vars.values())
    product.reflectance.compute()
    assert reads


@all_methods
def test_grid_crs_bands_and_dates_are_kept(method):
    inputs = inputs_of(48)
    product = method.predict(inputs)
    fine = inputs.pairs[0].fine
    assert grid_of(product) == grid_of(fine)
    assert grid_of(product.reflectance).crs == grid_of(fine).crs
    assert list(product.band.values) == list(fine.band.values)
    assert product.time.values == inputs.coarse.time.values
    assert product.attrs["method"] == repr(method)
    for name, (has_bands, dtype, _) in OUTPUTS.items():
        variable = everything(method, inputs)[name]
        assert variable.dtype == dtype
        assert variable.dims == (("band", "y", "x") if has_bands else ("y", "x"))


@all_methods
def test_an_invalid_pixel_influences_nothing_whatever_lies_near_it(method):
    inputs = inputs_of(48, clouds=0.0)
    hole = (slice(None), slice(20, 26), slice(8, 13))

    def with_hole(image, value):
        values = image.values.copy()
        values[hole] = value
        return image.copy(data=values)

    first = inputs.pairs[0]
    for kind in ("fine", "coarse"):
        found = []
        # Under NaN there is nothing else; infinities and huge values count as NaN.
        for value in (np.nan, np.inf, -np.inf):
            pair = dataclasses.replace(
                first, **{kind: with_hole(getattr(first, kind), value)}
            )
            changed_inputs = FusionInputs([pair, inputs.pairs[1]], inputs.coarse, 8)
            found.append(everything(method, changed_inputs).compute())
        for other in found[1:]:
            assert_same(other, found[0])
        assert np.isfinite(found[0].reflectance.values[:, :8, 30:]).all()


@all_methods
def test_where_no_pair_is_valid_the_prediction_is_nan(method):
    inputs = inputs_of(48, clouds=0.0)
    hole = (slice(None), slice(10, 20), slice(30, 35))

    def cloudy(image):
        values = image.values.copy()
        values[hole] = np.nan
        return image.copy(data=values)

    pairs = [Pair(cloudy(pair.fine), pair.coarse) for pair in inputs.pairs]
    product = everything(method, FusionInputs(pairs, inputs.coarse, 8)).compute()
    expected = np.zeros((48, 48), bool)
    expected[hole[1:]] = True
    np.testing.assert_array_equal(np.isnan(product.reflectance).all("band"), expected)
    assert (product.pair.values[expected] == 0).all()
    assert (product.pair.values[~expected] > 0).all()
    cloudy_at = FusionInputs(inputs.pairs, cloudy(inputs.coarse), 8)
    assert np.isnan(method.predict(cloudy_at).reflectance.values[hole]).all()


@all_methods
def test_inputs_without_a_valid_pixel_give_a_product_without_one(method):
    inputs = changed(inputs_of(40), lambda image: image * np.float32(np.nan))
    assert np.isnan(method.predict(inputs).reflectance).all()


@all_methods
def test_the_order_of_the_pairs_changes_no_bit(method):
    inputs = inputs_of(48)
    turned = FusionInputs(inputs.pairs[::-1], inputs.coarse, inputs.scale)
    assert_same(
        everything(method, turned).compute(), everything(method, inputs).compute()
    )


@all_methods
def test_an_unchanged_scene_is_returned(method):
    if isinstance(method, CoarseImage):
        pytest.skip("it has no detail to return: that is what it is for")
    inputs = inputs_of(48, clouds=0.0)
    fine = inputs.pairs[0].fine
    # UbESTARFM returns the level of the coarse image: here that of the fine one.
    coarse = fine if isinstance(method, UbESTARFM) else inputs.pairs[0].coarse
    days = np.array(["2023-06-01", "2023-08-01"], "datetime64[ns]")
    pairs = [
        Pair(fine.assign_coords(time=d), coarse.assign_coords(time=d)) for d in days
    ]
    still = FusionInputs(pairs, coarse.assign_coords(time=inputs.coarse.time), 8)
    product = method.predict(still)
    # STARFM averages pixels that differ by up to half a standard deviation.
    spread = fine.std(("y", "x"))
    assert (abs(product.reflectance - fine) <= 0.5 * spread).all()


@all_methods
def test_doubling_all_images_doubles_the_prediction(method):
    inputs = inputs_of(48)
    twice = changed(inputs, lambda image: image * np.float32(2))
    once, double = (method.predict(i).reflectance.values for i in (inputs, twice))
    np.testing.assert_allclose(double, 2 * once, rtol=2e-6)


@all_methods
def test_a_shifted_scale_shifts_the_prediction(method):
    inputs = inputs_of(48)
    kelvin = changed(inputs, lambda image: image * np.float32(64) + np.float32(256))
    once, warm = (method.predict(i).reflectance.values for i in (inputs, kelvin))
    # A float32 near 256 is known to 3e-5; a few of them meet in a prediction, and a
    # pixel on a threshold may fall on its other side.
    near = np.isclose(warm, 64 * once + 256, atol=1e-3) | np.isnan(once)
    assert near.mean() > 0.99
    assert np.nanmax(abs(warm - 64 * once - 256)) < 4


@all_methods
def test_float64_and_images_in_memory_give_the_same_as_lazy_float32(method):
    inputs = inputs_of(48)
    expected = everything(method, lazy(inputs)).compute()
    assert_same(everything(method, inputs).compute(), expected)
    double = changed(inputs, lambda image: image.astype(np.float64))
    assert_same(everything(method, double).compute(), expected)


@all_methods
def test_threads_and_processes_give_the_same_bits(method, cluster):
    inputs = lazy(inputs_of(70))
    product = everything(method, inputs, tile=40)
    with dask.config.set(scheduler="synchronous"):
        expected = product.compute()
    with dask.config.set(scheduler="threads", num_workers=4):
        assert_same(product.compute(), expected)
    assert_same(cluster.compute(product, sync=True), expected)


@all_methods
def test_all_tiles_have_one_compiled_shape(method):
    _predict.clear_cache()
    method.predict(lazy(inputs_of(100)), tile=32).compute()
    assert _predict._cache_size() == 1


@all_methods
def test_fit_leaves_the_method_as_it_is_and_returns_one(method):
    method = unfitted(method)
    before = repr(method)
    case = simulate_case(64, bands=("red", "nir"), pairs=2, scale=8)
    fitted = method.fit([case], seed=0)
    assert repr(method) == before
    if not learns(method):
        assert repr(fitted) == before
    else:
        assert fitted == method.fit([case], seed=0)
        assert fitted != method
        assert np.isfinite(fitted.predict(case.inputs).reflectance).any()


@all_methods
def test_a_method_is_a_value_and_its_repr_makes_it_again(method):
    # Nothing but names of methods and literals; a method may have methods as fields. What
    # was learned has no literal: there are files for it.
    plain = unfitted(method)
    kinds = (*METHODS.values(), *LEARNED.values(), Training)
    again = eval(repr(plain), {kind.__name__: kind for kind in kinds})
    assert again == plain
    assert hash(again) == hash(plain)
    field = next(iter(dataclasses.fields(method)), None)
    if field is not None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, field.name, 1)


@learned_methods
def test_gradients_are_finite_beside_invalid_pixels(method):
    scale = 8
    side = method.step(scale) + 2 * method.trim(scale)
    rng = np.random.default_rng(0)
    fine, base, coarse = rng.uniform(0.1, 0.4, (3, 2, side, side)).astype(np.float32)
    middle = side // 2
    fine[:, middle, middle - 2] = base[1, : middle - 3] = coarse[0, :, -5:] = np.nan
    images = (jnp.asarray(fine)[None], jnp.asarray(base)[None], jnp.asarray(coarse))
    summary = method.summarize(inputs_of(48)).compute()

    def total(images, weights):
        tile = FusionTile(*images, jnp.zeros(1), Scale(scale))
        image = method.predict_tile(tile, summary._replace(weights=weights)).reflectance
        return jnp.where(jnp.isfinite(image), image, 0.0).sum()

    found = jax.jit(jax.grad(total, argnums=(0, 1)))(images, summary.weights)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert all(np.abs(leaf).sum() > 0 for leaf in found[1].values())


@all_methods
def test_variances_are_stated_or_nan(method):
    product = method.predict(inputs_of(48)).compute()
    known = np.isfinite(product.reflectance)
    for part in (product.aleatoric, product.epistemic):
        if method.states_uncertainty:
            np.testing.assert_array_equal(np.isfinite(part), known)
            assert (part.values[known.values] >= 0).all()
        else:
            assert np.isnan(part).all()


@all_methods
def test_bounds_are_so_many_standard_deviations_off_and_change_no_other_bit(method):
    inputs = inputs_of(48)
    plain = method.predict(inputs).compute()
    every = everything(method, inputs, level=0.8).compute()
    for name, variable in plain.items():
        np.testing.assert_array_equal(every[name].values, variable.values)
    reach = method.interval_factor(0.8) * np.sqrt(every.aleatoric + every.epistemic)
    # float32: a root, a product and a sum, of numbers below 2
    for bound, expected in (
        (every.lower, every.reflectance - reach),
        (every.upper, every.reflectance + reach),
    ):
        assert bound.attrs["level"] == 0.8
        np.testing.assert_allclose(bound, expected, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(every.lower), np.isnan(every.aleatoric))
    alone = method.predict(inputs, outputs=("upper",), level=0.8)
    assert list(alone) == ["upper"]
    np.testing.assert_array_equal(alone.upper.values, every.upper.values)


def test_a_higher_level_has_wider_bounds_and_an_impossible_one_is_refused():
    inputs = inputs_of(32)
    method = STARFM(radius=2)
    bounds = ("lower", "upper")
    narrow, wide = (
        method.predict(inputs, outputs=bounds, level=level).compute()
        for level in (0.5, 0.95)
    )
    known = np.isfinite(narrow.lower.values)
    assert known.any()
    assert (wide.upper.values >= narrow.upper.values)[known].all()
    assert (wide.lower.values <= narrow.lower.values)[known].all()
    # The two are told apart in one graph as well.
    both = dask.compute(
        *(method.predict(inputs, outputs=bounds, level=v).lower for v in (0.5, 0.95))
    )
    assert not np.array_equal(both[0].values, both[1].values, equal_nan=True)
    with pytest.raises(ParameterError, match=r"found 95; write 0\.95"):
        method.predict(inputs, outputs=bounds, level=95)


@all_methods
def test_unknown_outputs_and_impossible_tiles_are_refused(method):
    inputs = inputs_of(32)
    with pytest.raises(UnknownNameError, match="did you mean 'reflectance'"):
        method.predict(inputs, outputs=("reflectence",))
    with pytest.raises(ParameterError, match="at least one output"):
        method.predict(inputs, outputs=())
    with pytest.raises(ParameterError, match="tile of at least 1 pixel"):
        method.predict(inputs, tile=0)


@pytest.mark.parametrize("offset", [(0, 0), (3, 5)])
def test_a_coarse_pixel_is_never_cut(offset):
    """Block means on tiles are those of the scene's own coarse grid."""
    inputs = inputs_of(100)
    rows, columns = (slice((-start) % 8, 97) for start in offset)
    part = changed(inputs, lambda image: image.isel(y=rows, x=columns))
    shifted = FusionInputs(part.pairs, part.coarse, 8, offset)
    method = CoarseChange(upsample="bicubic")
    whole = everything(method, shifted, tile=None).compute()
    assert_same(everything(method, shifted, tile=20).compute(), whole)
    # Negative control: at another offset coarse pixels are cut, and the result differs.
    other = FusionInputs(part.pairs, part.coarse, 8, ((offset[0] + 4) % 8, offset[1]))
    different = method.predict(other).reflectance
    assert not np.array_equal(different, whole.reflectance, equal_nan=True)


def test_a_method_that_needs_more_pairs_says_so():
    with pytest.raises(TooFewPairsError, match="at least 2 pairs"):
        LinearInTime().predict(inputs_of(32, pairs=1))


def test_a_method_that_needs_the_scale_says_so():
    inputs = inputs_of(32)
    without = xr.DataArray(inputs.coarse).assign_attrs(scale=None)
    unknown = FusionInputs(inputs.pairs, without)
    assert unknown.scale is None
    with pytest.raises(MissingScaleError, match="--scale N"):
        CoarseChange(upsample="bicubic").predict(unknown)
    assert geofuse.CoarseChange().predict(unknown).reflectance.shape == (2, 32, 32)
