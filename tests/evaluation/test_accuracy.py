"""The error matrix against a loop, its scores against formulas, areas against a paper."""

import math

import dask
import dask.array as da
import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.evaluation.accuracy import Confusion, confusion, merged
from geofuse.evaluation.area import area_adjusted, stratified
from geofuse.rasters.grid import place
from tests.conftest import GRID

NAMES = ("water", "crops", "grass")


def raster(values, *, chunks=None):
    values = np.asarray(values)
    made = place(values, GeoBox(values.shape, GRID, "EPSG:32633"))
    return made.chunk({"y": chunks, "x": chunks}) if chunks else made


def pair(shape=(37, 53)):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, shape).astype("int16")
    found = np.where(rng.random(shape) < 0.6, labels, rng.integers(-1, 3, shape))
    return found.astype("int16"), labels


def matrix_of(counts):
    counts = np.asarray(counts)
    none = np.zeros(len(counts), np.int64)
    return Confusion(tuple(f"c{n}" for n in range(len(counts))), counts, none, none)


@pytest.mark.parametrize("chunks", [None, (7, 19), (600, 10)])
def test_the_matrix_counts_each_pixel_once_whatever_the_chunks(chunks):
    found, labels = pair()
    one, other = chunks or (None, None)
    matrix = confusion(raster(found, chunks=one), raster(labels, chunks=other), NAMES)
    for mapped in range(3):
        for true in range(3):
            expected = ((found == mapped) & (labels == true)).sum()
            assert matrix.counts[mapped, true] == expected
        assert matrix.unlabeled[mapped] == ((found == mapped) & (labels < 0)).sum()
        assert matrix.unmapped[mapped] == ((found < 0) & (labels == mapped)).sum()
        assert matrix.mapped[mapped] == (found == mapped).sum()


def test_a_matrix_of_two_halves_is_that_of_the_whole():
    found, labels = pair((600, 40))
    whole = confusion(raster(found), raster(labels), NAMES)
    halves = [
        confusion(raster(found[rows]), raster(labels[rows]), NAMES)
        for rows in (slice(0, 250), slice(250, 600))
    ]
    for name in ("counts", "unmapped", "unlabeled"):
        assert (getattr(merged(halves), name) == getattr(whole, name)).all()


def test_memory_holds_a_tile_of_a_raster_of_any_size():
    zeros = da.zeros((6000, 6000), dtype="int16", chunks=1000)
    big = place(zeros, GeoBox((6000, 6000), GRID, "EPSG:32633"))
    with dask.config.set(scheduler="synchronous"):
        matrix = confusion(big, big, ["a", "b"])
    assert matrix.counts.tolist() == [[36_000_000, 0], [0, 0]]


def test_scores_are_those_of_the_formulas():
    found = matrix_of([[30, 5, 0], [10, 40, 5], [0, 5, 5]]).accuracy()
    assert found.overall == pytest.approx(0.75)
    assert found.producers == pytest.approx([0.75, 0.8, 0.5])
    assert found.average == pytest.approx((0.75 + 0.8 + 0.5) / 3)
    assert found.users == pytest.approx([30 / 35, 40 / 55, 0.5])
    assert found.f1 == pytest.approx([60 / 75, 80 / 105, 0.5])
    assert found.iou == pytest.approx([30 / 45, 40 / 65, 5 / 15])
    chance = (35 * 40 + 55 * 50 + 10 * 10) / 100**2
    assert found.kappa == pytest.approx((0.75 - chance) / (1 - chance))
    assert found.support.tolist() == [40, 50, 10]


def test_a_class_without_a_label_does_not_enter_the_means():
    found = matrix_of([[8, 0, 0], [2, 10, 0], [0, 0, 0]]).accuracy()
    assert found.average == pytest.approx(0.9)
    assert math.isnan(found.producers[2])
    assert math.isnan(found.f1[2])
    assert found.mean_iou == pytest.approx((0.8 + 10 / 12) / 2)
    empty = matrix_of(np.zeros((2, 2), int)).accuracy()
    assert math.isnan(empty.overall)
    assert math.isnan(empty.kappa)


def test_the_table_is_tidy():
    matrix = confusion(*map(raster, pair()), NAMES)
    table = matrix.accuracy().table()
    assert list(table.columns) == ["class", "metric", "value"]
    assert not table.duplicated(["class", "metric"]).any()
    value = table.set_index(["class", "metric"])["value"]
    assert value["crops", "users"] == matrix.accuracy().users[1]
    assert value["all", "unmapped"] == matrix.unmapped.sum()
    assert matrix.table().loc["crops", "grass"] == matrix.counts[1, 2]


@pytest.mark.parametrize(
    ("land_cover", "error", "message"),
    [
        (raster([[0, 3]]), ParameterError, "found 3"),
        (raster([[0.0, 1.0]]), ParameterError, "float64"),
        (raster([[0, 1, 2]]), GridMismatchError, "one grid"),
        (raster([[0, 1]]).expand_dims("band"), GridMismatchError, "select a band"),
    ],
)
def test_what_cannot_be_compared_is_refused(land_cover, error, message):
    with pytest.raises(error, match=message):
        confusion(land_cover, raster([[0, 1]]), NAMES)


def test_without_a_legend_that_is_said():
    with pytest.raises(ParameterError, match="legend"):
        confusion(raster([[0, 1]]), raster([[0, 1]]))


# --- areas

#: The worked example of Olofsson et al. (2014), section 5: labels by map class, pixels of
#: each map class, and pixels of 0.09 ha. Estimates and half widths of 95 % intervals as
#: the R package mapaccuracy and its ports give them for that example, to all their digits;
#: those of areas are the ones of the paper.
OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED = np.array([200_000, 150_000, 3_200_000, 6_450_000])
LOSS_AND_GAIN = ("deforestation", "forest gain", "stable forest", "stable non-forest")


def test_areas_and_accuracy_are_those_of_the_paper():
    found = stratified(LOSS_AND_GAIN, OLOFSSON, MAPPED)
    table = found.table(pixel_area=0.09).set_index(["metric", "class"])
    half = table["high"] - table["value"]
    assert table["value"]["overall", "all"] == pytest.approx(0.9465119, abs=1e-6)
    assert half["overall", "all"] == pytest.approx(0.01848328, abs=1e-6)
    expected = {
        "users": (
            [0.88, 0.7333333, 0.9272727, 0.9630769],
            [0.07403962, 0.10075516, 0.03974464, 0.02053312],
        ),
        "producers": (
            [0.7486614, 0.8471564, 0.9345089, 0.9616090],
            [0.21330593, 0.25440369, 0.03432379, 0.01836120],
        ),
        "area": (
            [21157.76, 11686.15, 285769.93, 581386.15],
            [6157.52, 3755.76, 15509.55, 16281.36],
        ),
    }
    for metric, (values, halves) in expected.items():
        names = list(LOSS_AND_GAIN)
        assert table["value"][metric][names].to_numpy() == pytest.approx(
            values, rel=1e-5
        )
        assert half[metric][names].to_numpy() == pytest.approx(halves, rel=1e-5)


def test_estimates_and_their_errors_are_right_over_many_samples():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 30_000)
    found = np.where(rng.random(30_000) < 0.7, true, rng.integers(0, 3, 30_000))
    found[:3000] = 0
    mapped = np.bincount(found)
    facts = np.bincount(true) / 30_000
    producers = np.array([(found[true == n] == n).mean() for n in range(3)])
    strata = [np.flatnonzero(found == n) for n in range(3)]
    results = []
    for _ in range(400):
        chosen = np.concatenate([rng.choice(s, 60, replace=False) for s in strata])
        counts = np.zeros((3, 3), int)
        np.add.at(counts, (found[chosen], true[chosen]), 1)
        results.append(stratified(NAMES, counts, mapped))
    for name, fact in (
        ("overall", (true == found).mean()),
        ("shares", facts),
        ("producers", producers),
    ):
        values = np.array([getattr(r, name)[0] for r in results])
        errors = np.array([getattr(r, name)[1] for r in results])
        # Four standard errors of a mean of 400, and 15 % for the spread of a spread.
        assert np.allclose(values.mean(0), fact, atol=4 * values.std(0).max() / 20)
        assert np.allclose(errors.mean(0), values.std(0), rtol=0.15)


def test_the_matrix_of_a_whole_map_gives_its_areas():
    found, labels = pair()
    adjusted = area_adjusted(confusion(raster(found), raster(labels), NAMES))
    assert adjusted.pixels == (found >= 0).sum()
    assert adjusted.shares[0].sum() == pytest.approx(1)


def test_a_class_that_is_neither_mapped_nor_labeled_is_nan():
    counts = np.array([[9, 1, 0], [2, 8, 0], [0, 0, 0]])
    found = stratified(NAMES, counts, np.array([50, 50, 0]))
    assert math.isnan(found.users[0][2])
    assert math.isnan(found.producers[0][2])
    assert found.shares[0][2] == 0


def test_a_map_class_with_one_label_is_refused():
    counts = np.array([[9, 1], [0, 1]])
    with pytest.raises(ParameterError, match="found fewer in b"):
        stratified(("a", "b"), counts, np.array([50, 50]))
