"""Class images by which pixels are scored apart."""

import numpy as np
import pandas as pd
import pytest

from geofuse.errors import NothingFoundError, ParameterError
from geofuse.evaluation.apa import edge_strength
from geofuse.evaluation.comparison import compare
from geofuse.evaluation.slices import (
    EDGE_GROUPS,
    SLICES,
    by_change,
    by_class,
    by_edge,
    by_lag,
)
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.spatiotemporal.baselines import Persistence
from geofuse.synthetic import simulate_case


@pytest.fixture(scope="module")
def case():
    return simulate_case(48, bands=("red", "nir"), scale=8, pairs=2, clouds=0.1, seed=3)


def test_deciles_of_change_hold_a_tenth_of_the_pixels_each(case):
    groups = by_change(case).values
    base = case.inputs.pairs[0].fine.values
    change = np.abs(case.reference.values - base).mean(axis=0)
    known = np.isfinite(change)
    np.testing.assert_array_equal(groups == 0, ~known)
    counts = np.bincount(groups[known], minlength=11)[1:]
    assert counts.sum() == known.sum()
    assert counts.max() - counts.min() <= 1
    for low, high in zip(range(1, 10), range(2, 11), strict=True):
        assert change[groups == low].max() <= change[groups == high].min() + 1e-7


def test_ground_that_never_changed_is_of_one_decile(case):
    fine = case.inputs.pairs[0].fine
    pair = Pair(fine, case.inputs.pairs[0].coarse)
    inputs = FusionInputs([pair], case.inputs.coarse, case.inputs.scale)
    same = fine.assign_coords(time=case.reference.time)
    groups = by_change(FusionCase(inputs, same)).values
    assert set(np.unique(groups)) == {0, 1}


def test_distance_to_edges_is_that_of_loops(case):
    found = by_edge(case).values
    reference = case.reference.values.astype(float)
    strength = np.full(reference.shape, np.nan)
    strength[:, 1:-1, 1:-1] = edge_strength(reference)
    edges = np.zeros(found.shape, int)
    for band in strength:
        values = np.sort(band[np.isfinite(band)])
        edges += band >= values[int(np.ceil(0.9 * len(values)))]
    rows, columns = np.nonzero(2 * edges >= len(reference))
    for y in range(0, 48, 5):
        for x in range(0, 48, 7):
            distance = np.sqrt((rows - y) ** 2 + (columns - x) ** 2).min()
            expected = max(start for start in EDGE_GROUPS if start <= distance)
            assert found[y, x] == expected


def test_ground_without_edges_is_far_from_them(case):
    flat = FusionCase(case.inputs, case.reference * np.nan)
    assert (by_edge(flat).values == EDGE_GROUPS[-1]).all()


@pytest.mark.parametrize("make", [by_change, by_edge])
def test_chunks_change_nothing(case, make):
    def lazy(image):
        return image.chunk({"band": 1, "y": 19, "x": 31})

    pairs = [Pair(lazy(p.fine), lazy(p.coarse)) for p in case.inputs.pairs]
    inputs = FusionInputs(pairs, lazy(case.inputs.coarse), case.inputs.scale)
    chunked = FusionCase(inputs, lazy(case.reference))
    np.testing.assert_array_equal(make(case).values, make(chunked).values)


def test_classes_are_those_of_the_case(case):
    with pytest.raises(NothingFoundError, match="class map"):
        by_class(case)
    labels = case.reference.isel(band=0, drop=True).drop_vars("time") * 0 + 2
    labels[:10] = np.nan
    inputs = FusionInputs(
        case.inputs.pairs, case.inputs.coarse, case.inputs.scale, classes=labels
    )
    found = by_class(FusionCase(inputs, case.reference))
    assert set(np.unique(found)) == {0, 2}
    assert (found[:10] == 0).all()


def test_persistence_errs_more_where_more_has_changed():
    case = simulate_case(48, bands=("red",), scale=8, seed=3)
    slices = {name: SLICES[name] for name in ("change", "edge")}
    table = compare(
        {"base": Persistence()}, test={"c": case}, metrics=["mae"], slices=slices
    )
    rows = table[(table.method == "base") & (table.band == "red")]
    change = rows[rows.slice == "change"]
    assert list(change.group) == list(range(1, 11))
    assert change.value.is_monotonic_increasing
    assert set(rows[rows.slice == "edge"].group) <= set(EDGE_GROUPS)
    assert rows[rows.slice == "edge"].pixels.sum() == 48 * 48


def test_lags_are_grouped_without_their_sign():
    table = pd.DataFrame({"lag": [0.0, -8, 9, -16, 17, 400]})
    assert list(by_lag(table).lag_group) == [0, 0, 9, 9, 17, 65]
    assert list(by_lag(table, (0, 100)).lag_group) == [0] * 5 + [100]
    for groups in ((), (1, 2), (0, 5, 5)):
        with pytest.raises(ParameterError, match="ascend from 0"):
            by_lag(table, groups)
