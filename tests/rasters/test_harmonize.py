"""Published and fitted lines between sensors."""

import dask
import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

from geofuse.errors import (
    BandMismatchError,
    GridMismatchError,
    ParameterError,
    UnknownNameError,
)
from geofuse.rasters.grid import place
from geofuse.rasters.harmonize import (
    BAND_PASSES,
    adjust_bandpass,
    adjust_line,
    fit_line,
)
from tests.conftest import GRID

#: (source, target), band, reflectance before and after, worked out by hand.
BY_HAND = [
    ("msi-a", "oli", "blue", 0.1, 0.09378),
    ("msi-a", "oli", "nir08", 0.3, 0.29939),
    ("msi-b", "oli", "swir2", 0.2, 0.19774),
    ("msi-b", "oli", "red", 0.1, 0.09861),
    ("etm", "oli", "nir", 0.3, 0.29506),
    ("etm", "oli", "blue", 0.1, 0.08504),
    ("oli", "etm", "green", 0.1, 0.10547),
    ("oli", "etm", "swir1", 0.2, 0.20338),
]


def image(values, bands=("red", "nir"), transform=GRID, **attrs):
    values = np.asarray(values, "f4")
    grid = GeoBox(values.shape[-2:], transform, "EPSG:32633")
    day = np.datetime64("2021-05-01", "ns")
    placed = place(values, grid, coords={"band": list(bands), "time": day})
    return placed.assign_attrs(attrs)


def scene(rows=96, columns=112, bands=2, seed=0):
    """Fields of 32 pixels with some noise: block means differ from field to field."""
    rng = np.random.default_rng(seed)
    fields = rng.uniform(0.05, 0.5, (bands, -(-rows // 16), -(-columns // 16)))
    values = fields.repeat(16, 1).repeat(16, 2)[:, :rows, :columns]
    return values + rng.normal(0, 0.01, values.shape)


# --- published
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target", "band", "before", "after"), BY_HAND)
def test_published_lines_are_applied(source, target, band, before, after):
    adjusted = adjust_bandpass(
        image(np.full((1, 2, 2), before), [band]), source, target
    )
    np.testing.assert_allclose(adjusted.values, after, rtol=1e-6)
    assert adjusted.dtype == np.float32
    assert f"{source} to {target}" in adjusted.attrs["harmonized"]
    assert band in adjusted.attrs["harmonized"]


def test_every_published_adjustment_is_checked_by_hand():
    assert {(source, target) for source, target, *_ in BY_HAND} == set(BAND_PASSES)


def test_lines_there_and_back_are_near_each_other():
    # Two regressions are no inverses, but a surface comes back within some hundredths.
    surface = image(np.full((1, 1, 1), 0.2), ["red"])
    back = adjust_bandpass(adjust_bandpass(surface, "etm", "oli"), "oli", "etm")
    assert float(back.item()) == pytest.approx(0.2, abs=0.02)


def test_what_was_not_published_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'msi-a to oli'"):
        adjust_bandpass(image(np.zeros((2, 2, 2))), "msi-a", "olli")
    with pytest.raises(BandMismatchError, match=r"nir08.*found nir;"):
        adjust_bandpass(image(np.zeros((2, 2, 2))), "msi-b", "oli")


# --- fitted
# ------------------------------------------------------------------------------


def test_a_line_is_found_in_spite_of_clouds_and_gaps():
    reference = scene()
    source = (reference - 0.03) / 1.2
    source[:, :32, :48] += 0.4  # a cloud over six of 42 blocks
    source[:, 90:, :5] = np.nan
    line = fit_line(image(source), image(reference)).compute()
    # Exact but for the rounding of float32.
    np.testing.assert_allclose(line.slope, 1.2, atol=1e-4)
    np.testing.assert_allclose(line.offset, 0.03, atol=1e-4)
    assert (line.blocks == 41).all()
    assert (line.correlation > 0.999).all()


def test_noise_in_both_does_not_flatten_the_line():
    reference = scene(320, 320)
    rng = np.random.default_rng(3)
    coarse = np.full(reference.shape, 0.0)
    truth = reference.reshape(2, 20, 16, 20, 16).mean(axis=(2, 4))
    noisy = truth + rng.normal(0, 0.05, truth.shape)
    coarse[:] = noisy.repeat(16, 1).repeat(16, 2)
    also_noisy = truth + rng.normal(0, 0.05, truth.shape)
    fine = also_noisy.repeat(16, 1).repeat(16, 2)
    slope = fit_line(image(coarse), image(fine)).compute().slope
    least_squares = [np.polyfit(a.ravel(), b.ravel(), 1)[0]
                     for a, b in zip(noisy, also_noisy, strict=True)]  # fmt: skip
    assert (np.abs(slope - 1) < 0.06).all()
    assert (np.array(least_squares) < 0.9).all()


def test_images_that_hardly_correlate_are_only_shifted():
    line = fit_line(image(scene(seed=1)), image(scene(seed=2) + 0.1)).compute()
    np.testing.assert_array_equal(line.slope, 1)
    assert (line.correlation < 0.5).all()


def test_blocks_are_those_of_coarse_pixels_and_several_days_are_one_line():
    fine = scene(144, 160)
    shifted = np.roll(fine, 5, axis=2)
    coarse = [
        image((f - 0.01) / 0.9, scale=8, coarse_offset=(3, 5)) for f in (fine, shifted)
    ]
    line = fit_line(coarse, [image(fine), image(shifted)]).compute()
    np.testing.assert_allclose(line.slope, 0.9, atol=1e-4)
    # Of 3 coarse pixels, from the corner of one: 5 rows of 6, and that twice.
    assert (line.blocks == 2 * 5 * 6).all()


def test_everything_is_lazy_and_chunks_change_no_bit():
    reference, source = image(scene()), image((scene() - 0.03) / 1.2)
    whole = adjust_line(source, fit_line(source, reference)).values
    for chunks in ({"y": 17, "x": 40}, {"band": 1, "y": 96, "x": 9}):
        one, other = source.chunk(chunks), reference.chunk(chunks)
        adjusted = adjust_line(one, fit_line(one, other), "the pair of a day")
        assert dask.is_dask_collection(adjusted.data)
        np.testing.assert_array_equal(adjusted.values, whole)
        assert adjusted.attrs["harmonized"] == "line fitted on the pair of a day"
        assert adjusted.dtype == np.float32
    np.testing.assert_allclose(whole, reference.values, atol=1e-3)
    computed = adjust_line(source, fit_line(source, reference).compute())
    np.testing.assert_array_equal(computed.values, whole)


def test_invalid_pixels_stay_invalid():
    source = scene()
    source[:, 4, 4] = np.nan
    adjusted = adjust_line(image(source), fit_line(image(source), image(scene())))
    np.testing.assert_array_equal(np.isnan(adjusted.values), np.isnan(source))


def test_too_few_blocks_and_images_that_do_not_fit_are_refused():
    small = image(scene(64, 64))
    with pytest.raises(ParameterError, match=r"at least 30 blocks.*found 16"):
        fit_line(small, small).compute()
    with pytest.raises(ParameterError, match="found 1 and 2"):
        fit_line(small, [small, small])
    with pytest.raises(BandMismatchError, match="same bands"):
        fit_line(small, small.isel(band=[1, 0]))
    with pytest.raises(GridMismatchError):
        fit_line(small, image(scene(64, 48)))
    line = fit_line(image(scene()), image(scene()))
    for one in (line, line.compute()):
        with pytest.raises(BandMismatchError, match="lines of 1 bands, found 2"):
            adjust_line(image(scene()).isel(band=[0]), one).compute()
    assert isinstance(small, xr.DataArray)
