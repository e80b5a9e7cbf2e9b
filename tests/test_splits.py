"""Parts of a split: disjoint, apart, by their shares, and the same for one ground."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy.spatial.distance import cdist

from geofuse.errors import ParameterError
from geofuse.landcover.case import LandCoverCase
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.rasters.grid import place
from geofuse.splits import (
    fold_of,
    inside_block,
    split_by_block,
    split_by_polygon,
    split_by_scene,
)
from tests.conftest import GRID

PIXEL = 30.0


def case(labels, *, transform=GRID, crs="EPSG:32633", chunks=None):
    labels = np.asarray(labels, "int16")
    made = place(labels, GeoBox(labels.shape, transform, crs))
    image = place(
        np.zeros((1, *labels.shape), "float32"), GeoBox(labels.shape, transform, crs)
    )
    if chunks:
        made = made.chunk({"y": chunks, "x": chunks})
    return LandCoverCase({"s2": image}, made)


def kept(cases, shape):
    """Where (y, x) any of the cases has a label."""
    found = np.zeros(shape, bool)
    for one in cases:
        found |= one.labels.values >= 0
    return found


def nearest(first, second):
    """Least distance of two sets of pixels, in meters."""
    if not (first.any() and second.any()):
        return np.inf
    return PIXEL * cdist(np.argwhere(first), np.argwhere(second)).min()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(4, 24),
    st.integers(4, 24),
    st.integers(1, 9),
    st.floats(0, 1),
    st.integers(0, 9),
    st.booleans(),
)
def test_parts_are_disjoint_and_no_two_are_nearer_than_the_guard(
    rows, columns, block, share, seed, south_up
):
    labels = np.random.default_rng(seed).integers(-1, 3, (rows, columns))
    labels[0, 0] = 0
    block_m = block * 41.0
    guard_m = share * block_m
    transform = GRID * GRID.scale(1, -1) if south_up else GRID
    split = split_by_block(
        [case(labels, transform=transform)], block_m=block_m, guard_m=guard_m, seed=seed
    )
    parts = [kept(part, labels.shape) for part in split]
    assert np.sum(parts, axis=0).max() <= 1
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert nearest(parts[one], parts[other]) >= guard_m * (1 - 1e-9)
    if guard_m == 0:
        assert (np.any(parts, axis=0) == (labels >= 0)).all()


def test_a_guard_costs_no_pixel_inside_a_part():
    labels = np.zeros((12, 12))
    split = split_by_block([case(labels)], block_m=90, guard_m=90, shares=(1, 0, 0))
    assert kept(split.train, labels.shape).all()
    assert not split.validation
    assert not split.test


def test_each_class_comes_into_each_part_by_its_share():
    rng = np.random.default_rng(1)
    # 100 blocks of 8 x 8 pixels; class 2 is in six of them only.
    blocks = rng.integers(0, 2, (10, 10))
    blocks.flat[rng.choice(100, 6, replace=False)] = 2
    labels = blocks.repeat(8, 0).repeat(8, 1)
    anchored = GRID.translation(0, 0) * GRID.scale(30, -30)
    split = split_by_block([case(labels, transform=anchored)], block_m=240)
    for number in range(3):
        total = (labels == number).sum()
        shares = [
            sum((one.labels.values == number).sum() for one in part) / total
            for part in split
        ]
        assert np.allclose(shares, (0.6, 0.2, 0.2), atol=0.15)
        assert min(shares) > 0


def test_ground_that_two_cases_see_is_in_one_part():
    labels = np.zeros((24, 24))
    moved = GRID * GRID.translation(6, 4)
    split = split_by_block([case(labels), case(labels, transform=moved)], block_m=120)
    part_of = {}
    for number, part in enumerate(split):
        for one in part:
            known = one.labels.compute().stack(pixel=("y", "x"))
            for y, x in known.where(known >= 0, drop=True)["pixel"].values.tolist():
                assert part_of.setdefault((y, x), number) == number
    assert len(part_of) == 24 * 24 * 2 - 18 * 20


def test_chunks_change_nothing_and_only_the_count_is_computed():
    labels = np.random.default_rng(0).integers(-1, 2, (40, 50))
    whole = split_by_block([case(labels)], block_m=200, guard_m=60, seed=3)
    tiled = split_by_block([case(labels, chunks=7)], block_m=200, guard_m=60, seed=3)
    for one, other in zip(whole, tiled, strict=True):
        assert other[0].labels.chunks
        assert (kept(one, labels.shape) == kept(other, labels.shape)).all()


def test_blocks_of_a_grid_in_degrees_have_their_side_in_meters():
    transform = GRID.translation(10, 60) * GRID.scale(0.001, -0.001)
    labels = np.zeros((60, 60))
    split = split_by_block(
        [case(labels, transform=transform, crs="EPSG:4326")], block_m=1113.2
    )
    train = kept(split.train, labels.shape)
    # 10 rows, and at 60 degrees 20 columns.
    assert (np.diff(np.flatnonzero(np.diff(train, axis=0).any(1))) % 10 == 0).all()
    assert (np.diff(np.flatnonzero(np.diff(train, axis=1).any(0))) % 20 == 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.0, 60.0, 100.0]))
def test_polygons_stay_whole_and_their_parts_are_apart(seed, guard_m):
    rng = np.random.default_rng(seed)
    labels = np.full((20, 20), -1)
    for _ in range(9):
        top, left = rng.integers(0, 17, 2)
        labels[top : top + 2, left : left + 3] = rng.integers(0, 3)
    split = split_by_polygon([case(labels)], guard_m=guard_m, seed=seed)
    parts = [kept(part, labels.shape) for part in split]
    assert (np.sum(parts, axis=0) == (labels >= 0)).all()
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert nearest(parts[one], parts[other]) >= max(guard_m, 1.5 * PIXEL)


def test_scenes_stay_whole():
    cases = [case(np.full((4, 4), number % 2)) for number in range(10)]
    split = split_by_scene(cases, seed=1)
    assert [len(part) for part in split] == [6, 2, 2]
    assert {id(one) for part in split for one in part} == {id(one) for one in cases}
    for part in split:
        assert {int(one.labels[0, 0]) for one in part} == {0, 1}


def test_cases_of_fusion_are_split_by_their_reference():
    rng = np.random.default_rng(0)

    def image(day):
        values = rng.random((2, 12, 12)).astype("float32")
        grid = GeoBox((12, 12), GRID, "EPSG:32633")
        coords = {"band": ["red", "nir"], "time": np.datetime64(day, "ns")}
        return place(values, grid, coords=coords)

    pair = Pair(image("2021-05-01"), image("2021-05-01"))
    whole = FusionCase(FusionInputs([pair], image("2021-06-01")), image("2021-06-01"))
    split = split_by_block([whole], block_m=90)
    found = [part[0].reference for part in split]
    assert all(isinstance(part[0], FusionCase) for part in split)
    count = sum(np.isfinite(reference).astype(int) for reference in found)
    assert (count == 1).all()
    for reference in found:
        assert reference.dims == ("band", "y", "x")
        valid = np.isfinite(reference)
        assert xr.where(valid, reference == whole.reference, True).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_m": 0}, "more than 0 m"),
        ({"block_m": 90, "guard_m": 100}, "to their side"),
        ({"block_m": 90, "shares": (1, 2)}, "training, validation and test"),
        ({"block_m": 90, "shares": (0, 0, 0)}, "training, validation and test"),
    ],
)
def test_splits_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        split_by_block([case(np.zeros((4, 4)))], **options)


def test_cases_without_a_label_are_refused():
    with pytest.raises(ParameterError, match="found none"):
        split_by_block([case(np.full((4, 4), -1))], block_m=90)


def test_a_fold_holds_whole_blocks_and_about_its_share():
    rows, columns = (v.ravel() for v in np.indices((320, 320)))
    folds = fold_of(rows, columns).reshape(10, 32, 10, 32)
    assert (folds == folds[:, :1, :, :1]).all()
    assert set(np.unique(folds)) == set(range(5))


def test_pixels_near_the_edge_of_a_block_are_not_inside():
    rows, columns = (v.ravel() for v in np.indices((8, 8)))
    inside = inside_block(rows, columns, block=4, guard=1).reshape(8, 8)
    assert inside.sum() == 16
    assert inside[1:3, 1:3].all()
