import dask.array as da
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geofuse.errors import (
    CRSMismatchError,
    GridMismatchError,
    ParameterError,
    UnknownNameError,
)
from geofuse.rasters.align import (
    Nesting,
    align,
    find_replication,
    nesting_of,
    scale_between,
)
from geofuse.rasters.grid import check_same_grid, grid_of, place
from geofuse.rasters.optical import open_optical

SIN = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
UTM = "EPSG:32633"
MODIS = 463.3127165275
#: Near the eastern edge of a MODIS tile, where the sinusoidal grid is far from UTM's.
FINE = Affine(30.0, 0.0, 400020.0, 0.0, -30.0, 5400030.0)


def image(values, transform, crs=UTM, chunks=64, **attrs):
    """An image (band, y, x) with a date and band names, in dask chunks."""
    values = np.asarray(values, np.float32)
    values = values[None] if values.ndim == 2 else values
    data = da.from_array(values, chunks=(-1, chunks, chunks))
    names = [f"b{number}" for number in range(1, len(values) + 1)]
    day = np.datetime64("2021-07-01", "ns")
    grid = GeoBox(values.shape[-2:], transform, crs)
    placed = place(data, grid, coords={"band": names, "time": day})
    return placed.assign_attrs(sensor="generic", **attrs)


def fine_image(rows=300, columns=320, transform=FINE, crs=UTM):
    return image(np.zeros((rows, columns)), transform, crs)


def modis_like(values=None, around=FINE, rows=60, columns=60):
    """A sinusoidal image around the fine one; by default noise."""
    x, y = Transformer.from_crs(UTM, SIN, always_xy=True).transform(around.c, around.f)
    left = np.floor(x / MODIS - 10) * MODIS
    top = np.ceil(y / MODIS + 10) * MODIS
    transform = Affine(MODIS, 0, left, 0, -MODIS, top)
    if values is None:
        values = np.random.default_rng(1).random((2, rows, columns))
    return image(values, transform, SIN, chunks=23)


def centers(grid):
    rows, columns = grid.shape
    x = grid.affine.c + (np.arange(columns) + 0.5) * grid.affine.a
    y = grid.affine.f + (np.arange(rows) + 0.5) * grid.affine.e
    return np.meshgrid(x, y)


def of_coordinates():
    """An image that holds its own coordinates, less those of its corner."""
    empty = grid_of(modis_like())
    x, y = centers(empty)
    corner = np.array([empty.affine.c, empty.affine.f])
    return modis_like(np.stack([x - corner[0], y - corner[1]])), corner


# --- places
# -----------------------------------------------------------------------------


def test_bilinear_resampling_misplaces_no_pixel_by_a_decimeter():
    coarse, corner = of_coordinates()
    fine = fine_image()
    moved = align(coarse, like=fine, resampling="bilinear")
    expected = Transformer.from_crs(UTM, SIN, always_xy=True).transform(
        *centers(grid_of(fine))
    )
    found = moved.values + corner[:, None, None]
    assert np.isfinite(found).all()
    assert np.hypot(*(found - expected)).max() < 0.1


def errors_of_nested_pixels(resampling):
    """Found minus true sinusoidal coordinates of the nested pixels, in meters."""
    coarse, corner = of_coordinates()
    moved = align(coarse, like=fine_image(), scale=16, resampling=resampling)
    row, column = moved.attrs["coarse_offset"]
    rows, columns = np.arange(row, 300 - 15, 16), np.arange(column, 320 - 15, 16)
    x, y = np.meshgrid(FINE.c + (columns + 8) * 30.0, FINE.f - (rows + 8) * 30.0)
    expected = Transformer.from_crs(UTM, SIN, always_xy=True).transform(x, y)
    return moved.values[:, rows][:, :, columns] + corner[:, None, None] - expected


def test_a_nested_pixel_takes_the_source_pixel_that_its_center_lies_in():
    errors = np.abs(errors_of_nested_pixels("nearest"))
    assert errors.max() < MODIS / 2 + 0.1
    assert errors.max() > MODIS / 2 - 20  # the centers reach almost to the edges


def test_an_area_mean_lies_where_its_pixel_lies():
    # To a decimeter, where a mean of whole source pixels is off by up to 36 m.
    assert np.hypot(*errors_of_nested_pixels(None)).max() < 0.1


def test_an_area_mean_makes_and_loses_no_light():
    values = np.random.default_rng(2).random((16, 24))
    empty = fine_image(60, 60)
    row, column = align(modis_like(), like=empty, scale=4).attrs["coarse_offset"]
    # 16 x 24 pixels of 45 m lie under 6 x 9 pixels of 120 m, and touch no other.
    corner = FINE * Affine.translation(column, row) * Affine.scale(1.5)
    moved = align(image(values, corner), like=empty, scale=4).values[0]
    assert np.isfinite(moved).sum() == 24 * 36
    assert np.nanmean(moved) == pytest.approx(values.mean(), abs=1e-6)


# --- lazy
# -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"scale": 16}, {"resampling": "cubic"}])
def test_chunks_of_the_source_change_no_bit(options):
    coarse, fine = modis_like(), fine_image()
    expected = align(coarse.chunk(-1), like=fine, **options).values
    for chunks in ({"y": 7, "x": 11}, {"band": 1, "y": 60, "x": 5}):
        lazy = align(coarse.chunk(chunks), like=fine, **options)
        np.testing.assert_array_equal(lazy.values, expected)
    eager = align(coarse.compute(), like=fine, **options)
    np.testing.assert_array_equal(eager.values, expected)


@pytest.mark.parametrize("options", [{"scale": 16}, {"resampling": "bilinear"}])
def test_a_part_computed_alone_is_the_part_of_the_whole(options, monkeypatch):
    monkeypatch.setattr("geofuse.rasters.align.BLOCK", 64)
    moved = align(modis_like(), like=fine_image(), **options)
    whole = moved.values
    np.testing.assert_array_equal(
        moved[:, 50:90, 130:131].values, whole[:, 50:90, 130:131]
    )


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise AssertionError("computed")

    coarse = modis_like()
    coarse = coarse.copy(
        data=coarse.data.map_blocks(fail, dtype="f4", meta=coarse.data._meta)
    )
    moved = align(coarse, like=fine_image(), scale=16)
    with pytest.raises(AssertionError, match="computed"):
        moved.values  # noqa: B018


def test_date_bands_and_crs_are_those_that_they_should_be():
    coarse = modis_like().assign_coords(band=["red", "nir"])
    fine = fine_image().assign_coords(time=np.datetime64("2022-02-02", "ns"))
    moved = align(coarse, like=fine, scale=16)
    assert moved["time"].values == np.datetime64("2021-07-01", "ns")
    assert list(moved["band"].values) == ["red", "nir"]
    assert moved.dtype == np.float32
    assert moved.attrs["sensor"] == "generic"
    check_same_grid(moved, fine, names=("moved", "fine"))


# --- nested grids
# -----------------------------------------------------------------------


@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 3), (-5, 1), (3, -7)])
def test_nested_coarse_pixels_are_repeated_exactly(top, left):
    scale, shape = 4, (21, 26)
    values = np.random.default_rng(0).random((6, 7), np.float32)
    corner = FINE * Affine.translation(left, top) * Affine.scale(scale)
    fine = fine_image(*shape)
    moved = align(image(values, corner), like=fine)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    rows, columns = (rows - top) // scale, (columns - left) // scale
    inside = (rows >= 0) & (rows < 6) & (columns >= 0) & (columns < 7)
    expected = np.where(inside, values[rows.clip(0, 5), columns.clip(0, 6)], np.nan)
    np.testing.assert_array_equal(moved.values[0], expected)
    assert moved.attrs["scale"] == scale
    assert moved.attrs["coarse_offset"] == (top % scale, left % scale)


@settings(max_examples=40, deadline=None)
@given(
    scale=st.integers(2, 7),
    top=st.integers(-9, 9),
    left=st.integers(-9, 9),
    rows=st.integers(1, 25),
    columns=st.integers(1, 25),
)
def test_any_nesting_is_found(scale, top, left, rows, columns):
    target = GeoBox((rows, columns), FINE, UTM)
    corner = FINE * Affine.translation(left, top) * Affine.scale(scale)
    found = nesting_of(GeoBox((5, 5), corner, UTM), target)
    assert found == Nesting(scale, (top % scale, left % scale))


@pytest.mark.parametrize("shift", [(0.3, 0), (0, 0.5)])
def test_coarse_pixels_off_the_fine_ones_do_not_nest(shift):
    corner = FINE * Affine.translation(*shift) * Affine.scale(4)
    assert nesting_of(GeoBox((5, 5), corner, UTM), GeoBox((20, 20), FINE, UTM)) is None


def test_clipping_the_fine_image_does_not_move_the_nested_grid():
    coarse, fine = modis_like(), fine_image()
    whole = align(coarse, like=fine, scale=16)
    part = align(coarse, like=fine[:, 37:203, 51:290], scale=16)
    np.testing.assert_array_equal(part.values, whole.values[:, 37:203, 51:290])
    expected = tuple(
        (start - cut) % 16
        for start, cut in zip(whole.attrs["coarse_offset"], (37, 51), strict=True)
    )
    assert part.attrs["coarse_offset"] == expected


def test_every_coarse_pixel_of_the_nested_grid_is_constant():
    moved = align(modis_like(), like=fine_image(), scale=16)
    row, column = moved.attrs["coarse_offset"]
    blocks = moved.values[:, row : row + 256, column : column + 256]
    blocks = blocks.reshape(2, 16, 16, 16, 16)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    assert np.unique(blocks).size > 100


# --- the same pixels
# --------------------------------------------------------------------


def test_an_image_on_the_grid_already_is_returned_as_it_is():
    values = np.random.default_rng(0).random((2, 30, 40))
    moved = align(image(values, FINE), like=fine_image(30, 40))
    np.testing.assert_array_equal(moved.values, values.astype("f4"))
    assert "scale" not in moved.attrs


def test_the_scale_of_an_image_on_the_fine_grid_is_noted():
    moved = align(fine_image(), like=fine_image(), scale=10)
    assert moved.attrs["scale"] == 10
    assert moved.attrs["coarse_offset"] == (0, 0)


def test_another_extent_of_the_same_pixels_is_cropped_and_padded_with_nan():
    values = np.arange(1, 1201).reshape(30, 40)
    shifted = image(values, FINE * Affine.translation(-3, 5))
    moved = align(shifted, like=fine_image(20, 60)).values[0]
    np.testing.assert_array_equal(moved[5:, :37], values[:15, 3:])
    assert np.isnan(moved[:5]).all()
    assert np.isnan(moved[:, 37:]).all()


# --- NaN
# --------------------------------------------------------------------------------


def test_an_invalid_pixel_leaves_the_mean_to_the_valid_ones():
    fine = fine_image(32, 32)
    transform = FINE * Affine.translation(-0.5, -0.5) * Affine.scale(1.5)
    source = np.ones((40, 40))
    source[10, 12] = np.nan
    moved = align(image(source, transform), like=fine, scale=4).values[0]
    # A coarse pixel of 4 covers more than one source pixel of 1.5.
    np.testing.assert_array_equal(moved, 1.0)


def test_a_block_without_any_valid_pixel_is_invalid_and_no_other():
    coarse = modis_like(np.ones((60, 60)))
    values = coarse.values.copy()
    values[:, 15:20, 15:20] = np.nan
    moved = align(coarse.copy(data=values), like=fine_image(), scale=16)
    invalid = np.isnan(moved.values[0])
    assert 2 * 256 <= invalid.sum() <= 7 * 7 * 256
    np.testing.assert_array_equal(moved.values[0][~invalid], 1.0)


def test_outside_of_the_image_there_is_nan_and_no_zero():
    coarse = modis_like(np.ones((20, 15)))
    moved = align(coarse, like=fine_image(), scale=16).values
    assert np.isnan(moved).any()
    assert set(np.unique(moved[np.isfinite(moved)])) == {1.0}


# --- refused
# ----------------------------------------------------------------------------


def test_images_of_two_places_are_refused():
    far = image(np.zeros((9, 9)), Affine(480, 0, 800_000, 0, -480, 5_000_000))
    for options in ({}, {"scale": 16}):
        with pytest.raises(GridMismatchError, match="do not meet"):
            align(far, like=fine_image(), **options)
    same_pixels = image(np.zeros((9, 9)), FINE * Affine.translation(5000, 0))
    with pytest.raises(GridMismatchError, match="do not meet"):
        align(same_pixels, like=fine_image())


def test_a_crs_on_one_image_only_is_refused():
    with pytest.raises(CRSMismatchError, match="a CRS on both or neither"):
        align(fine_image(crs=None), like=fine_image())
    with pytest.raises(CRSMismatchError, match="a CRS on both or neither"):
        align(fine_image(), like=fine_image(crs=None), scale=16)


def test_images_without_crs_are_aligned_only_where_they_nest():
    coarse = FINE * Affine.scale(4)
    nested = align(
        image(np.ones((9, 9)), coarse, None), like=fine_image(36, 36, crs=None)
    )
    assert nested.attrs["scale"] == 4
    off = coarse * Affine.translation(0.1, 0)
    with pytest.raises(GridMismatchError, match="on one grid, or nested"):
        align(image(np.ones((9, 9)), off, None), like=fine_image(36, 36, crs=None))


@pytest.mark.parametrize("scale", [1, 0, -16])
def test_a_scale_below_two_is_refused(scale):
    with pytest.raises(ParameterError, match="a whole number above 1"):
        align(modis_like(), like=fine_image(), scale=scale)


def test_an_unknown_resampling_is_told_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'bilinear'"):
        align(modis_like(), like=fine_image(), resampling="bilinaer")


# --- the scale
# --------------------------------------------------------------------------


def test_the_scale_is_found_from_the_grids():
    assert scale_between(modis_like(), fine_image()) == 16
    nested = image(np.zeros((5, 5)), FINE * Affine.scale(7))
    assert scale_between(nested, fine_image()) == 7
    assert scale_between(fine_image(), fine_image()) is None


def replicated(scale, offset=(0, 0), shape=(90, 120)):
    coarse = np.random.default_rng(0).random((2, 60, 80), np.float32)
    fine = coarse.repeat(scale, axis=1).repeat(scale, axis=2)
    top, left = ((scale - start) % scale for start in offset)
    return fine[:, top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize(("scale", "offset"), [(2, (0, 0)), (5, (3, 1)), (16, (15, 0))])
def test_replication_is_found_with_its_offset(scale, offset):
    values = replicated(scale, offset)
    assert find_replication(image(values, FINE)) == Nesting(scale, offset)
    sampled = find_replication(image(values, FINE), sample=70)
    assert sampled == Nesting(scale, offset)


def test_replication_is_found_under_clouds_of_whole_coarse_pixels():
    values = replicated(5, (3, 1))
    values[:, 3:28, 1:41] = np.nan
    assert find_replication(image(values, FINE)) == Nesting(5, (3, 1))


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).random((40, 40)),  # as fine as the grid
        np.add.outer(np.linspace(0, 1, 40), np.linspace(0, 1, 40)),  # smooth
        np.ones((40, 40)),  # nothing to see
        np.full((40, 40), np.nan),
        replicated(4)[:, :, ::2],  # 4 by 2
        np.random.default_rng(0)
        .random((10, 10))
        .repeat([4, 5] * 5, axis=0)
        .repeat([4, 5] * 5, axis=1),  # uneven
    ],
    ids=["noise", "smooth", "constant", "invalid", "oblong", "uneven"],
)
def test_what_is_not_replicated_has_no_scale(values):
    assert find_replication(image(values, FINE)) is None


def test_lgc_is_replicated_16_times_and_cia_is_not(real_data):
    folder = real_data / "fusion"
    lgc = open_optical(folder / "lgc_fsdaf/MODIS20041126", date="2004-11-26")
    assert find_replication(lgc) == Nesting(16, (0, 0))
    for day in ("20011008", "20011017", "20011102"):
        path = folder / f"cia_e2starfm_50m/M_{day}.tif"
        assert find_replication(open_optical(path, date="2001-10-08")) is None


def test_kranj_coarse_and_fine_lie_on_one_grid(real_data):
    folder = real_data / "fusion/kranj_imagefusion"
    fine = open_optical(
        folder / "landsat/filled/2020068_191-28.tif_filled_kranj.tif", date="2020-03-08"
    )
    coarse = open_optical(
        folder / "modis/filled/2020068_18-04_kranj.tif", date="2020-03-08"
    )
    moved = align(coarse, like=fine)
    np.testing.assert_array_equal(moved.values, coarse.values)
    assert "scale" not in moved.attrs


def test_an_image_that_is_moved_by_a_little_of_a_pixel_says_so():
    moved = fine_image(transform=FINE * Affine.translation(0, 0.006))
    assert align(moved, like=fine_image()).attrs["snapped"] == "0.006 pixels"
    assert "snapped" not in align(fine_image(), like=fine_image()).attrs


def test_pixels_that_nest_are_interpolated_only_on_request():
    values = np.arange(24.0).reshape(4, 6)
    coarse = image(values, FINE * Affine.scale(2))
    fine = fine_image(8, 12)
    repeated = values.repeat(2, 0).repeat(2, 1)
    for resampling in (None, "nearest"):
        moved = align(coarse, like=fine, resampling=resampling)
        np.testing.assert_array_equal(moved.values[0], repeated)
    smooth = align(coarse, like=fine, resampling="bilinear").values[0]
    # A quarter of the way from one center to the next, by hand.
    assert smooth[3, 3] == pytest.approx(0.75 * (0.75 * 7 + 0.25 * 8) + 0.25 * 13.25)
