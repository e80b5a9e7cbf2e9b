"""Usable pairs out of two archives, and why others are none."""

import dask
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import DateMismatchError, ParameterError
from geofuse.pairing import find_pairs, harmonized
from geofuse.pairs import FusionInputs, Pair
from geofuse.rasters.grid import place
from tests.conftest import GRID


def image(day, *, share=1.0, transform=GRID, bands=("red", "nir"), seed=0):
    """An image of 40x50 pixels of which a share is valid."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.05, 0.4, (len(bands), 40, 50)).astype("f4")
    values[:, :, round(share * 50) :] = np.nan
    coords = {"band": list(bands), "time": np.datetime64(day, "ns")}
    return place(values, GeoBox((40, 50), transform, "EPSG:32633"), coords=coords)


AT = "2021-07-01"
COARSE = [image(day) for day in ("2021-01-01", "2021-05-01", "2021-06-16", AT,
                                 "2021-07-16", "2021-08-01", "2021-08-10")]  # fmt: skip


def test_pairs_are_ranked_by_lag_then_by_valid_share_and_others_told_why():
    fine = [
        image("2021-08-10", share=0.04),
        image("2021-01-01"),
        image("2021-07-16", share=0.6),
        image("2021-06-16", share=0.9),
        image(AT),
        image("2021-05-01", bands=("red", "swir1")),
        image("2021-08-01", transform=GRID * Affine.translation(0.5, 0)),
        image("2021-05-20"),
    ]
    found = find_pairs(fine, COARSE, AT, max_lag=70)
    days = [str(pair.date) for pair in found.pairs]
    assert days == ["2021-06-16", "2021-07-16"]
    assert str(found.coarse["time"].values)[:10] == AT
    table = found.table.set_index(found.table["date"].astype(str))
    assert list(table.index) == sorted(table.index)
    assert table["lag"]["2021-06-16"] == 15
    assert table["lag"]["2021-07-16"] == -15
    assert table["valid"]["2021-06-16"] == pytest.approx(0.9)
    assert table["rank"].to_dict()["2021-07-16"] == 2
    assert not table["dropped"]["2021-06-16"]
    reasons = {
        "2021-01-01": "max_lag=70",
        "2021-05-01": "expected the same bands",
        "2021-05-20": "no coarse image within tolerance=0 days",
        "2021-07-01": "the prediction date itself",
        "2021-08-01": "0.5 pixels apart",
        "2021-08-10": "4% of the pixels",
    }
    for day, words in reasons.items():
        assert words in table["dropped"][day], day
        assert table["rank"][day] == 0
    FusionInputs(found.pairs, found.coarse)


def test_a_coarse_image_of_a_day_beside_serves_within_the_tolerance():
    fine = [image("2021-06-15"), image("2021-07-18")]
    assert not find_pairs(fine, COARSE, AT).pairs
    found = find_pairs(fine, COARSE, AT, tolerance=1)
    assert [str(pair.date) for pair in found.pairs] == ["2021-06-15"]
    assert str(found.table["coarse_date"][0])[:10] == "2021-06-16"


def test_of_two_fine_images_of_one_day_the_more_valid_one_is_taken():
    fine = [image("2021-06-16", share=0.3), image("2021-06-16", share=0.8)]
    found = find_pairs(fine, COARSE, AT)
    assert len(found.pairs) == 1
    assert float(np.isfinite(found.pairs[0].fine).mean()) == pytest.approx(0.8)
    assert sorted(found.table["dropped"])[1] == (
        "another pair of that day has more valid pixels"
    )


def test_stacks_along_time_are_lists_of_images_and_pixels_stay_lazy():
    fine = [image("2021-06-16"), image("2021-05-01", share=0.5)]
    stack = xr.concat(fine, "time").chunk({"time": 1, "y": 16, "x": 16})
    coarse = xr.concat(COARSE, "time").chunk({"time": 1})
    found = find_pairs(stack, coarse, AT)
    assert [str(pair.date) for pair in found.pairs] == ["2021-06-16", "2021-05-01"]
    assert dask.is_dask_collection(found.pairs[0].fine.data)
    np.testing.assert_array_equal(found.pairs[0].fine.values, fine[0].values)
    assert found.table["valid"].tolist() == pytest.approx([0.5, 1.0])


def test_no_coarse_image_of_the_prediction_date_is_refused_with_those_there_are():
    with pytest.raises(
        DateMismatchError, match="found those of 2021-01-01, 2021-05-01"
    ):
        find_pairs([image("2021-06-16")], COARSE, "2021-07-02")
    with pytest.raises(DateMismatchError, match="found those of no day"):
        find_pairs([image("2021-06-16")], [], AT)
    with pytest.raises(DateMismatchError, match="one coarse image a day"):
        find_pairs([image("2021-06-16")], [*COARSE, COARSE[0]], AT)
    with pytest.raises(DateMismatchError, match="scalar 'time'"):
        find_pairs([image("2021-06-16").drop_vars("time")], COARSE, AT)


def test_no_usable_pair_is_an_empty_table_of_reasons_and_no_error():
    found = find_pairs([], COARSE, AT)
    assert found.pairs == ()
    assert list(found.table.columns) == ["date", "coarse_date", "lag", "valid", "rank",
                                         "dropped"]  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"max_lag": -1}, {"tolerance": -1}, {"least_valid": 1.5}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ParameterError, match="not negative"):
        find_pairs([], COARSE, AT, **options)


def test_harmonized_inputs_have_coarse_images_on_one_line_to_the_fine_ones():
    rng = np.random.default_rng(5)
    fields = rng.uniform(0.05, 0.5, (3, 2, 8, 9)).repeat(16, 2).repeat(16, 3)
    grid = GeoBox(fields.shape[-2:], GRID, "EPSG:32633")

    def placed(values, day, **attrs):
        coords = {"band": ["red", "nir"], "time": np.datetime64(day, "ns")}
        return place(values.astype("f4"), grid, coords=coords).assign_attrs(attrs)

    days = ("2021-05-01", "2021-09-01", AT)
    attrs = {"scale": 8, "coarse_offset": (0, 0)}
    coarse = [
        placed((f + 0.02) * 0.8, day, **attrs)
        for f, day in zip(fields, days, strict=True)
    ]
    pairs = [Pair(placed(fields[n], days[n]), coarse[n]) for n in (0, 1)]
    found = harmonized(FusionInputs(pairs, coarse[2]))
    assert found.scale == 8
    np.testing.assert_allclose(found.coarse.values, fields[2], atol=1e-5)
    np.testing.assert_allclose(found.pairs[1].coarse.values, fields[1], atol=1e-5)
    np.testing.assert_array_equal(found.pairs[1].fine.values, pairs[1].fine.values)
    assert "2021-05-01, 2021-09-01" in found.coarse.attrs["harmonized"]
    assert found.coarse["time"].values == np.datetime64(AT, "ns")
