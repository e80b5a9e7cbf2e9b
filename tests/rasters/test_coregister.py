import math
from functools import cache

import dask.array as da
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geofuse import plots
from geofuse.errors import (
    BandMismatchError,
    GridMismatchError,
    MissingScaleError,
    ParameterError,
)
from geofuse.rasters.align import align
from geofuse.rasters.coregister import estimate_shift
from geofuse.rasters.grid import grid_of, place
from geofuse.rasters.misregistration import misregistration
from geofuse.rasters.patches import overlay
from geofuse.rasters.psf import estimate_psf
from geofuse.rasters.shift import relocate, shift
from geofuse.synthetic import simulate_case

SCALE = 8
MARGIN = 4 * SCALE
SIZE = 24 * SCALE
GRID = Affine(30, 0, 499_920, 0, -30, 5_100_000)


def image(values, transform=GRID, bands=("red", "nir"), **attrs):
    values = np.asarray(values, np.float32)
    grid = GeoBox(values.shape[-2:], transform, "EPSG:32633")
    time = np.datetime64("2023-07-07", "ns")
    placed = place(values, grid, coords={"band": list(bands), "time": time})
    return placed.assign_attrs(attrs)


@cache
def truth(seed):
    case = simulate_case(
        SIZE + 2 * MARGIN, bands=("red", "nir"), scale=SCALE, seed=seed
    )
    return case.reference.values.astype(np.float64)


def pair(dy, dx, *, psf=0.5, noise=0.0, clouds=0.0, seed=0):
    """A fine image, and a coarse one that shows the ground `dy`, `dx` further on."""
    ground = truth(seed)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] + float(MARGIN)
    moved = [
        ndimage.map_coordinates(
            ndimage.gaussian_filter(band, psf * SCALE), [y - dy, x - dx], order=1
        )
        for band in ground
    ]
    cells = SIZE // SCALE
    coarse = np.stack(moved).reshape(2, cells, SCALE, cells, SCALE).mean((2, 4))
    coarse = 1.2 * coarse - 0.01 + rng.normal(0, noise, coarse.shape)
    fine = ground[:, MARGIN:-MARGIN, MARGIN:-MARGIN].copy()
    fine += rng.normal(0, noise, fine.shape)
    if clouds:
        for values, width in ((fine, 2.0 * SCALE), (coarse, 2.0)):
            field = ndimage.gaussian_filter(rng.normal(size=values.shape[1:]), width)
            values[:, field > np.quantile(field, 1 - clouds)] = np.nan
    coarse = coarse.repeat(SCALE, 1).repeat(SCALE, 2)
    return image(fine), image(coarse, scale=SCALE, coarse_offset=(0, 0))


# --- the estimate
# -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "noise", "clouds"), [(0, 0.0, 0.0), (1, 0.004, 0.0), (2, 0.004, 0.2)]
)
def test_a_known_shift_is_found_to_a_tenth_of_a_coarse_pixel(seed, noise, clouds):
    dy, dx = np.random.default_rng(seed).uniform(-1.2, 1.2, 2) * SCALE
    fine, coarse = pair(dy, dx, noise=noise, clouds=clouds, seed=seed)
    found = estimate_shift(fine, coarse)
    assert math.hypot(found.dy - dy, found.dx - dx) < 0.1 * SCALE
    assert found.confidence > 0.9
    assert found.correlation > 0.9
    assert found.scale == SCALE
    assert max(found.std_y, found.std_x) < 0.15 * SCALE


def test_what_was_found_undoes_the_shift():
    fine, coarse = pair(3.4, -5.2)
    found = estimate_shift(fine, coarse)
    again = estimate_shift(fine, shift(coarse, -found.dy, -found.dx))
    assert math.hypot(again.dy, again.dx) < 0.06 * SCALE
    _, straight = pair(0, 0)
    before, after = (
        np.nanmean((c - straight).values[:, MARGIN:-MARGIN, MARGIN:-MARGIN] ** 2)
        for c in (coarse, shift(coarse, -found.dy, -found.dx))
    )
    assert after < 0.15 * before


def test_gain_and_offset_change_nothing():
    fine, coarse = pair(2.0, 1.0)
    other = (0.5 * coarse + 0.2).assign_attrs(coarse.attrs)
    first, second = (estimate_shift(fine, c) for c in (coarse, other))
    assert first.dy == pytest.approx(second.dy, abs=1e-3)
    assert first.dx == pytest.approx(second.dx, abs=1e-3)


def test_chunks_change_nothing_and_at_most_64_patches_are_read():
    fine, coarse = pair(2.0, 1.0)
    expected = estimate_shift(fine, coarse)
    read = []

    def watched(block):
        read.append(block.size)
        return block

    lazy = fine.copy(
        data=da.from_array(fine.values, chunks=(1, 50, 37)).map_blocks(
            watched, dtype="f4", meta=np.empty((0, 0, 0), "f4")
        )
    )
    assert estimate_shift(lazy, coarse.chunk({"x": 19})) == expected
    assert read


def test_a_large_scene_is_looked_at_in_patches_only():
    side = 20_000
    data = da.zeros((2, side, side), chunks=(2, 512, 512), dtype="f4")
    grid = GeoBox((side, side), GRID, "EPSG:32633")
    huge = place(data, grid, coords={"band": ["red", "nir"]})
    patches = overlay(huge, huge.assign_attrs(scale=16, coarse_offset=(3, 5))).patches()
    assert len(patches) == 64
    assert {(p.rows, p.columns) for p in patches} == {(32, 32)}
    assert all((p.top - 3) % 16 == 0 and (p.left - 5) % 16 == 0 for p in patches)
    assert max(p.top for p in patches) + 32 * 16 <= side


def test_a_coarse_image_on_its_own_grid_is_aligned_first():
    fine, coarse = pair(4.0, 2.0)
    native = image(coarse.values[:, ::SCALE, ::SCALE], GRID * Affine.scale(SCALE))
    expected = estimate_shift(fine, coarse)
    assert estimate_shift(fine, native) == expected
    moved = relocate(native, -expected.dy / SCALE, -expected.dx / SCALE)
    again = estimate_shift(fine, moved, scale=SCALE)
    assert math.hypot(again.dy, again.dx) < 0.06 * SCALE


def test_what_tells_no_shift_has_no_confidence():
    fine, coarse = pair(0, 0)
    flat = coarse.copy(data=np.full(coarse.shape, 0.3, np.float32))
    clouded = coarse.copy(data=np.full(coarse.shape, np.nan, np.float32))
    for useless in (flat, clouded):
        found = estimate_shift(fine, useless)
        assert found.confidence == 0
        assert math.isnan(found.dy)
        assert misregistration(fine, useless).in_words().startswith("shift unknown")
    cells = np.random.default_rng(0).random((2, SIZE // SCALE, SIZE // SCALE))
    noise = coarse.copy(data=cells.repeat(SCALE, 1).repeat(SCALE, 2).astype("f4"))
    assert estimate_shift(fine, noise).confidence < 0.5


def test_a_shift_beyond_reach_has_no_confidence_and_more_reach_finds_it():
    fine, coarse = pair(2.6 * SCALE, 0)
    assert estimate_shift(fine, coarse, reach=1).confidence == 0
    found = estimate_shift(fine, coarse, reach=4)
    assert found.dy == pytest.approx(2.6 * SCALE, abs=0.1 * SCALE)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"reach": 0.5}, ParameterError), ({"reach": math.nan}, ParameterError)],
)
def test_a_useless_reach_is_refused(options, error):
    with pytest.raises(error, match="reach"):
        estimate_shift(*pair(0, 0), **options)


def test_images_that_cannot_be_compared_are_refused():
    fine, coarse = pair(0, 0)
    with pytest.raises(BandMismatchError, match="both images have"):
        estimate_shift(fine, coarse.assign_coords(band=["a", "b"]))
    smooth = image(truth(0)[:, MARGIN:-MARGIN, MARGIN:-MARGIN])
    with pytest.raises(MissingScaleError, match="smoothly"):
        estimate_shift(fine, smooth)
    with pytest.raises(GridMismatchError, match="whole coarse pixel"):
        estimate_shift(fine[:, :5, :5], coarse[:, :5, :5])


def test_the_report_shows_how_the_shift_differs_over_the_scene():
    fine, left = pair(0.0, -4.0)
    _, right = pair(0.0, 4.0)
    half = np.arange(SIZE) < SIZE // 2
    coarse = left.copy(data=np.where(half, left.values, right.values))
    report = misregistration(fine, coarse)
    found = {
        bool(x < SIZE / 2): s.dx
        for x, s in zip(report.local.x, report.local.shifts, strict=True)
        if abs(x - SIZE / 2) > 10 and s.confidence > 0.5
    }
    assert found[True] == pytest.approx(-4, abs=2)
    assert found[False] == pytest.approx(4, abs=2)
    picture = plots.png(plots.misregistration_map(report, fine))
    assert picture.startswith(b"\x89PNG")
    assert "coarse pixels" in report.in_words()


# --- the point spread
# -------------------------------------------------------------------


@pytest.mark.parametrize("psf", [0.0, 0.4, 0.8])
def test_a_known_point_spread_is_found(psf):
    fine, coarse = pair(0, 0, psf=psf, noise=0.001)
    found = estimate_psf(fine, coarse)
    assert found.sigma == pytest.approx(psf, abs=0.08)
    assert found.std < 0.1
    assert found.fwhm == pytest.approx(2.355 * found.sigma, rel=1e-3)


def test_a_shift_that_is_told_widens_no_point_spread():
    fine, coarse = pair(6.0, -5.0, psf=0.4)
    told = estimate_psf(fine, coarse, shift=(6.0, -5.0)).sigma
    assert told == pytest.approx(0.4, abs=0.1)
    assert estimate_psf(fine, coarse).sigma > told + 0.2
    with pytest.raises(ParameterError, match="finite shift"):
        estimate_psf(fine, coarse, shift=(math.nan, 0.0))


# --- moving
# -----------------------------------------------------------------------------


def by_loops(values, dy, dx, stride):
    """Keys' cubic, one pixel at a time, one axis after the other."""

    def weight(t):
        t = abs(t)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0

    for axis, d in ((0, dy), (1, dx)):
        source = np.moveaxis(values, axis, 0)
        result = np.full(source.shape, np.nan)
        for i in range(len(source)):
            for j in range(source.shape[1]):
                at = -d / stride
                nearest = math.floor(at + 0.5)
                total = 0.0

                def of(k, i=i, j=j, source=source):
                    place = i + k * stride
                    inside = 0 <= place < len(source)
                    return source[place, j] if inside else np.nan

                for k in range(math.floor(at) - 1, math.floor(at) + 3):
                    value = of(k) if not np.isnan(of(k)) else of(nearest)
                    if weight(at - k):
                        total += weight(at - k) * value
                result[i, j] = total
        values = np.moveaxis(result, 0, axis)
    return values


@pytest.mark.parametrize(("dy", "dx"), [(0.3, -1.7), (2, 0), (-0.5, 0.25)])
@pytest.mark.parametrize("stride", [1, 3])
def test_shift_is_keys_cubic(dy, dx, stride):
    values = np.random.default_rng(0).random((2, 14, 17)).astype("f4")
    values[:, 4, 5:8] = np.nan
    attrs = {"scale": stride} if stride > 1 else {}
    moved = shift(image(values, **attrs), dy, dx).values
    for band in range(2):
        expected = by_loops(values[band].astype(float), dy, dx, stride)
        np.testing.assert_allclose(moved[band], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tile", [5, 16, 512])
def test_tiles_change_no_bit_of_a_shifted_image(tile):
    values = np.random.default_rng(1).random((2, 30, 41)).astype("f4")
    values[:, 10:12, 7] = np.nan
    lazy = image(values).chunk({"y": 13, "x": 9})
    expected = shift(image(values), 0.37, -2.61, tile=64).values
    np.testing.assert_array_equal(shift(lazy, 0.37, -2.61, tile=tile).values, expected)


def test_whole_pixels_are_moved_exactly_down_and_right_and_nested_ones_stay_whole():
    fine, coarse = pair(0, 0)
    moved = shift(fine, 3, 2)
    np.testing.assert_array_equal(moved[:, 3:, 2:].values, fine.values[:, :-3, :-2])
    assert np.isnan(moved[:, :3].values).all()
    assert grid_of(moved) == grid_of(fine)
    assert moved["time"] == fine["time"]
    moved = shift(coarse, 3.3, -1.1)
    blocks = moved.values.reshape(2, SIZE // SCALE, SCALE, SIZE // SCALE, SCALE)
    assert ((blocks == blocks[:, :, :1, :, :1]) | np.isnan(blocks)).all()
    assert moved.attrs["scale"] == SCALE
    for bad in (math.nan, math.inf):
        with pytest.raises(ParameterError, match="shift in pixels"):
            shift(fine, bad, 0.0)


def test_relocating_keeps_every_value_and_moves_the_grid():
    fine, _ = pair(0, 0)
    moved = relocate(fine, 2.0, -1.0)
    assert moved.values is fine.values or (moved.values == fine.values).all()
    assert moved["y"].values[0] == fine["y"].values[2]
    assert moved["x"].values[1] == fine["x"].values[0]
    back = align(moved, like=fine)
    np.testing.assert_array_equal(back.values, shift(fine, 2, -1).values)
