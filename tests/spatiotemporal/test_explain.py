"""Kernels by differentiation: against loops, finite differences, and what must hold."""

import dataclasses

import dask.array as da
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from geofuse.errors import (
    GridMismatchError,
    ParameterError,
    TooFewPairsError,
    UnknownNameError,
)
from geofuse.pairs import FusionInputs, Pair
from geofuse.spatiotemporal.baselines import (
    CoarseChange,
    LinearInTime,
    Persistence,
)
from geofuse.spatiotemporal.explain import (
    implicit_kernel,
    input_derivatives,
    kernel_maps,
    kernels_at,
)
from geofuse.spatiotemporal.kernel_statistics import (
    average_kernel,
    center_weight,
    cover_weights,
    effective_radius,
    kernel_entropy,
)
from geofuse.spatiotemporal.method import FixedMethod, FusionPrediction, no_summary
from geofuse.spatiotemporal.starfm import DN, STARFM
from geofuse.spatiotemporal.unmixing import Unmixing
from geofuse.synthetic import simulate_case
from tests.oracles.starfm import starfm_paper, starfm_robust, starfm_usda

ORACLES = {"paper": starfm_paper, "robust": starfm_robust, "usda": starfm_usda}
SIZE, RADIUS = 24, 2


def inputs_of(size=SIZE, *, pairs=2, scale=4, clouds=0.0, seed=0, offset=(0, 0)):
    found = simulate_case(
        size, bands=("red", "nir"), pairs=pairs, scale=scale, clouds=clouds, seed=seed
    ).inputs
    return FusionInputs(found.pairs, found.coarse, scale, offset)


def changed(inputs, change):
    pairs = [Pair(change(pair.fine), change(pair.coarse)) for pair in inputs.pairs]
    return FusionInputs(pairs, change(inputs.coarse), inputs.scale, inputs.offset)


def starfm_around(method, inputs, y, x, band):
    """The window of a pixel in float64, and a function from it to the prediction."""
    place = (..., slice(y - RADIUS, y + RADIUS + 1), slice(x - RADIUS, x + RADIUS + 1))
    fine, base = (
        np.stack(
            [np.float64(getattr(pair, kind).values[band]) for pair in inputs.pairs]
        )
        for kind in ("fine", "coarse")
    )
    coarse = np.float64(inputs.coarse.values[band])
    summary = method.summarize(inputs).compute()
    spread = np.float64(summary.spread[band])
    known = {"radius": RADIUS, "classes": method.classes, "decay": method.decay}
    known |= {"std": summary.std[:, band], "sigma": method.noise * spread}
    if method.rules == "usda":
        known["dn"] = DN * spread

    def predicted(*window):
        return ORACLES[method.rules](*window, **known)[0][RADIUS, RADIUS]

    return (fine[place], base[place], coarse[place]), predicted


def differences(predicted, window, moved, step=1e-7):
    """Finite differences by each pixel, moving it in the images of those numbers."""
    side = 2 * RADIUS + 1
    found = np.zeros((side, side))
    for place in np.ndindex(side, side):
        ends = []
        for sign in (1, -1):
            images = [image.copy() for image in window]
            for number, pair in moved:
                where = place if pair is None else (pair, *place)
                images[number][where] += sign * step
            ends.append(predicted(*images))
        found[place] = (ends[0] - ends[1]) / (2 * step)
    return found


@pytest.mark.parametrize("rules", ["robust", "paper", "usda"])
@pytest.mark.parametrize("pairs", [1, 2])
def test_the_kernel_of_starfm_is_its_normalized_weights(rules, pairs):
    inputs = inputs_of(pairs=pairs, seed=pairs)
    method = STARFM(radius=RADIUS, classes=4, decay=2.0, noise=0.05, rules=rules)
    y, x = 9, 13
    kernel = implicit_kernel(method, inputs, y=y, x=x, band="nir")
    window, predicted = starfm_around(method, inputs, y, x, band=1)
    # A candidate moves by what all images move by, and the weights stay: so the difference
    # is the weight, over the pairs.
    everywhere = [(0, k) for k in range(pairs)] + [(1, k) for k in range(pairs)]
    weights = differences(predicted, window, [*everywhere, (2, None)])
    assert (weights > 0).sum() > 3
    np.testing.assert_allclose(kernel.sel(band="nir"), weights, atol=2e-6)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert not kernel.sel(band="red").any()


@pytest.mark.parametrize("rules", ["robust", "paper"])
def test_derivatives_by_single_images_are_finite_differences(rules):
    inputs = inputs_of(seed=4)
    method = STARFM(radius=RADIUS, classes=4, decay=2.0, noise=0.05, rules=rules)
    found = input_derivatives(method, inputs, y=9, x=13, band="red").sel(band="red")
    window, predicted = starfm_around(method, inputs, 9, 13, band=0)
    for name, moved in {
        "fine": (0, 1),
        "coarse_base": (1, 0),
        "coarse": (2, None),
    }.items():
        expected = differences(predicted, window, [moved])
        one = found[name] if moved[1] is None else found[name].isel(pair=moved[1])
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(one, expected, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("offset", [(0, 0), (3, 1)])
@pytest.mark.parametrize(("y", "x"), [(10, 7), (0, 23)])
def test_the_coarse_grid_is_kept_and_the_edge_is_an_edge(offset, y, x):
    inputs = inputs_of(pairs=1, offset=offset)
    method = CoarseChange(upsample="bicubic")
    found = input_derivatives(method, inputs, y=y, x=x).sel(band="red")
    before = method.predict(inputs).reflectance.values[0, y, x]
    rng = np.random.default_rng(0)
    for name in ("fine", "coarse_base", "coarse"):
        one = found[name] if name == "coarse" else found[name].isel(pair=0)
        # Of a linear method any step will do; a random one tries all pixels at once.
        step = rng.normal(size=(SIZE, SIZE)).astype(np.float32)

        def moved(image, step=step):
            return image + xr.DataArray(step, dims=("y", "x"))

        pair = inputs.pairs[0]
        images = {
            "fine": pair.fine,
            "coarse_base": pair.coarse,
            "coarse": inputs.coarse,
        }
        images[name] = moved(images[name])
        after = FusionInputs(
            [Pair(images["fine"], images["coarse_base"])], images["coarse"], 4, offset
        )
        change = method.predict(after).reflectance.values[0, y, x] - before
        rows, columns = y + one.dy.values, x + one.dx.values
        inside = np.pad(step, one.dy.size)[
            np.ix_(rows + one.dy.size, columns + one.dx.size)
        ]
        # float32: sums of some 400 products of about 0.05
        assert float((one * inside).sum()) == pytest.approx(float(change), abs=2e-5)


@pytest.mark.parametrize(
    "method",
    [
        Persistence(),
        CoarseChange(upsample="bicubic"),
        LinearInTime(),
        STARFM(radius=3),
        Unmixing(classes=3, coarse_radius=1),
    ],
    ids=lambda method: type(method).__name__,
)
def test_kernels_sum_to_one_and_invalid_pixels_have_none(method):
    inputs = inputs_of(32, clouds=0.3, scale=8, seed=2)
    predicted = np.isfinite(method.predict(inputs).reflectance.values[0])
    cloudy = np.isnan(inputs.pairs[0].fine.values[0])
    # Next to a cloud, and within reach of the edge.
    near = predicted & np.roll(cloudy, 2, axis=1) & ~cloudy
    y, x = (int(where[0]) for where in np.nonzero(near))
    radius = max(method.halo, 4)
    found = input_derivatives(method, inputs, y=y, x=x, radius=radius)
    kernel = implicit_kernel(method, inputs, y=y, x=x)
    assert np.isfinite(kernel).all()
    assert float(kernel.sum()) == pytest.approx(1, abs=2e-5)
    hole = np.pad(cloudy, radius, constant_values=True)
    hole = hole[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
    assert hole.any()
    assert not found.fine.isel(pair=0).values[:, hole].any()


@dataclasses.dataclass(frozen=True)
class Trap(FixedMethod):
    """A method with NaN that is selected away, and a root without a slope."""

    @property
    def halo(self):
        return 1

    def summarize(self, inputs):
        return no_summary()

    def predict_tile(self, tile, summary):
        # NaN in all neighbors, which a `where` drops: 0 times NaN on the way back.
        ratio = tile.fine[0] / jnp.where(tile.fine[0] > 9, 1.0, jnp.nan)
        root = jnp.where(tile.fine[0] > 9, jnp.sqrt(tile.fine[0] - tile.fine[0]), 0.0)
        image = jnp.where(jnp.isfinite(ratio), ratio, tile.fine[0]) + root
        image = image[:, 1:-1, 1:-1]
        number = jnp.ones(image.shape[1:], jnp.int32)
        return FusionPrediction(image, image, image, number, number)


def test_what_is_selected_away_has_no_derivative_even_if_it_is_nan():
    kernel = implicit_kernel(Trap(), inputs_of(pairs=1), y=5, x=6)
    expected = np.zeros((2, 3, 3))
    expected[0, 1, 1] = 1
    np.testing.assert_array_equal(kernel, expected)


def test_a_kernel_has_its_coordinates_and_any_radius():
    inputs = inputs_of()
    whole = implicit_kernel(STARFM(radius=3), inputs, y=12, x=1)
    assert whole.dims == ("band", "dy", "dx")
    assert whole.dtype == np.float32
    assert list(whole.dx.values) == [-3, -2, -1, 0, 1, 2, 3]
    assert not whole.sel(dx=slice(-3, -2)).any()  # beyond the edge
    assert whole.attrs["method"] == repr(STARFM(radius=3))
    assert whole.attrs["predicted_band"] == "red"
    small, large = (
        implicit_kernel(STARFM(radius=3), inputs, y=12, x=1, radius=radius)
        for radius in (1, 5)
    )
    np.testing.assert_array_equal(small, whole.sel(dy=small.dy, dx=small.dx))
    np.testing.assert_array_equal(large.sel(dy=whole.dy, dx=whole.dx), whole)
    assert float(abs(large).sum()) == float(abs(whole).sum())
    found = input_derivatives(STARFM(radius=3), inputs, y=12, x=1)
    assert found.fine.dims == ("pair", "band", "dy", "dx")
    assert [str(day)[:10] for day in found.pair.values] == [
        str(pair.date) for pair in inputs.pairs
    ]


def test_only_the_tile_around_the_pixel_is_read():
    reads = []

    def counted(image):
        def read(block):
            reads.append(block.shape)
            return block

        data = da.from_array(image.values, chunks=(2, 8, 8))
        meta = np.empty((0, 0, 0), np.float32)
        return image.copy(data=data.map_blocks(read, dtype=np.float32, meta=meta))

    inputs = changed(inputs_of(96, pairs=1), counted)
    implicit_kernel(CoarseChange(), inputs, y=40, x=41)
    assert len(reads) == 3  # one chunk of each image


def test_what_has_no_kernel_is_refused():
    inputs = inputs_of(clouds=0.0)
    with pytest.raises(ParameterError, match=r"rows 0 to 23 .* found row 24, column 3"):
        implicit_kernel(Persistence(), inputs, y=24, x=3)
    with pytest.raises(ParameterError, match="found row 0, column -1"):
        implicit_kernel(Persistence(), inputs, y=0, x=-1)
    with pytest.raises(ParameterError, match="radius of 0 pixels or more"):
        implicit_kernel(Persistence(), inputs, y=0, x=0, radius=-1)
    with pytest.raises(UnknownNameError, match="did you mean 'nir'"):
        implicit_kernel(Persistence(), inputs, y=0, x=0, band="nit")
    with pytest.raises(TooFewPairsError, match="at least 2 pairs"):
        implicit_kernel(LinearInTime(), inputs_of(pairs=1), y=0, x=0)
    hole = inputs.coarse.copy()
    hole[:, 4:8, 4:8] = np.nan
    cloudy = FusionInputs(inputs.pairs, hole, 4)
    with pytest.raises(
        ParameterError, match="found nothing at row 5, column 6 of 'red'"
    ):
        implicit_kernel(Persistence(), cloudy, y=5, x=6)
    with pytest.raises(ParameterError, match="at least one pixel"):
        kernels_at(Persistence(), inputs, [])
    with pytest.raises(ParameterError, match="every 1 pixel or more"):
        kernel_maps(Persistence(), inputs, every=0)
    kernels = kernels_at(Persistence(), cloudy, [(5, 6), (9, 9)])
    assert np.isnan(kernels[0]).all()
    assert float(kernels[1].sum()) == 1


def test_maps_hold_the_numbers_of_single_kernels():
    inputs = inputs_of()
    method = STARFM(radius=3)
    maps = kernel_maps(method, inputs, every=8, band="nir")
    assert dict(maps.sizes) == {"y": 3, "x": 3}
    np.testing.assert_array_equal(maps.y, inputs.coarse.y[4::8])
    kernel = implicit_kernel(method, inputs, y=12, x=4, band="nir").sel(band="nir")
    for name, statistic in {
        "radius": effective_radius,
        "entropy": kernel_entropy,
        "center": center_weight,
    }.items():
        assert float(maps[name][1, 0]) == pytest.approx(float(statistic(kernel)))
    alone = kernel_maps(Persistence(), inputs, every=8)
    assert not alone.radius.any()
    assert not alone.entropy.any()
    np.testing.assert_array_equal(alone.center, 1)


def kernel_of(values, **coords):
    reach = np.arange(-(values.shape[-1] // 2), values.shape[-1] // 2 + 1)
    dims = ("pixel", "dy", "dx")[-values.ndim :]
    return xr.DataArray(values, {"dy": reach, "dx": reach, **coords}, dims)


def test_numbers_of_a_kernel_by_hand():
    values = np.zeros((5, 5))
    values[2, 2], values[2, 4] = 0.75, -0.25  # the size counts, not the sign
    kernel = kernel_of(values)
    assert float(effective_radius(kernel)) == 1.0
    expected = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    assert float(kernel_entropy(kernel)) == pytest.approx(expected)
    assert float(center_weight(kernel)) == 0.75
    assert np.isnan(effective_radius(0 * kernel))
    assert np.isnan(kernel_entropy(np.nan * kernel))
    with pytest.raises(ParameterError, match="expected a kernel"):
        effective_radius(kernel.rename(dx="x"))


def test_kernels_by_class_and_between_covers_by_hand():
    classes = xr.DataArray([[1, 1, 2], [1, 1, 2], [0, 1, 2]], dims=("y", "x"))
    values = np.zeros((3, 3, 3))
    values[0, 1, 1], values[0, 1, 2] = 0.75, 0.25  # of (1, 1): itself, and a 2
    values[1, 1, 1], values[1, 2, 0] = 0.5, 0.5  # of (1, 1): itself, and a 0
    values[2, 1, 0] = 1.0  # of (0, 2): a 1
    place = {"row": ("pixel", [1, 1, 0]), "column": ("pixel", [1, 1, 2])}
    kernels = kernel_of(values, **place)
    mean = average_kernel(kernels, classes)
    np.testing.assert_array_equal(mean.sel({"class": 1}), values[:2].mean(axis=0))
    np.testing.assert_array_equal(mean.pixels, [2, 1])
    shares = cover_weights(kernels, classes)
    np.testing.assert_array_equal(shares.neighbor, [0, 1, 2])
    np.testing.assert_allclose(shares, [[0.25, 0.625, 0.125], [0, 1, 0]])
    labeled = kernels.copy()
    labeled[2] = np.nan
    assert list(average_kernel(labeled, classes)["class"].values) == [1]
    with pytest.raises(ParameterError, match="a class and a prediction"):
        cover_weights(kernels, 0 * classes)
    with pytest.raises(ParameterError, match="kernels_at"):
        cover_weights(kernels[0], classes)
    with pytest.raises(ParameterError, match=r"class map \(y, x\)"):
        cover_weights(kernels, classes.expand_dims("band"))
    with pytest.raises(GridMismatchError, match="align it"):
        average_kernel(kernels, classes[:1])


def test_covers_of_a_real_method_add_up():
    inputs = inputs_of(pairs=1)
    classes = xr.DataArray(
        1 + (np.indices((SIZE, SIZE)).sum(0) // 8) % 2, dims=("y", "x")
    )
    pixels = [(y, x) for y in (2, 11, 20) for x in (1, 12, 22)]
    kernels = kernels_at(STARFM(radius=3), inputs, pixels)
    shares = cover_weights(kernels.sel(band="red"), classes)
    np.testing.assert_allclose(shares.sum("neighbor"), 1)
    means = average_kernel(kernels, classes)
    assert means.dims == ("class", "band", "dy", "dx")
    np.testing.assert_allclose(means.sum(("band", "dy", "dx")), 1, atol=1e-6)
