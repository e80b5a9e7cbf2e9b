"""The majority filter against a loop over pixels."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.landcover.smoothing import smoothed
from geofuse.rasters.grid import place
from tests.conftest import GRID


def land_cover(values, *, chunks=None):
    values = np.asarray(values, "int16")
    made = place(values, GeoBox(values.shape, GRID, "EPSG:32633"))
    return made.chunk({"y": chunks, "x": chunks}) if chunks else made


def by_loop(values, window):
    radius = window // 2
    found = values.copy()
    for y, x in np.ndindex(values.shape):
        if values[y, x] < 0:
            continue
        part = values[
            max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1
        ]
        counts = Counter(part[part >= 0].tolist())
        own, most = values[y, x], max(counts.values())
        winners = [number for number, count in counts.items() if count == most]
        found[y, x] = own if own in winners else min(winners)
    return found


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 19),
    st.integers(1, 19),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([None, 4, 7, 16]),
    st.integers(0, 99),
)
def test_it_is_the_majority_of_the_window_whatever_the_tile(
    rows, columns, window, tile, seed
):
    values = (
        np.random.default_rng(seed).integers(-1, 4, (rows, columns)).astype("int16")
    )
    found = smoothed(land_cover(values, chunks=5), window=window, tile=tile)
    assert found.dtype == np.int16
    assert (found.values == by_loop(values, window)).all()


def test_it_is_lazy_and_keeps_grid_and_legend():
    given_ = land_cover(np.zeros((9, 9)), chunks=4).assign_attrs(class_names="a")
    found = smoothed(given_)
    assert found.chunks is not None
    assert found.attrs["class_names"] == "a"
    assert found.attrs["smoothed"] == "majority of 3 x 3 pixels"
    assert found.drop_attrs().equals(given_.drop_attrs())
    assert found["spatial_ref"].attrs == given_["spatial_ref"].attrs


def test_what_is_no_map_or_no_window_is_refused():
    given_ = land_cover(np.zeros((9, 9)))
    with pytest.raises(ParameterError, match="found 4"):
        smoothed(given_, window=4)
    with pytest.raises(ParameterError, match="float32"):
        smoothed(given_.astype("float32"))
    with pytest.raises(GridMismatchError, match="band"):
        smoothed(given_.expand_dims("band"))
