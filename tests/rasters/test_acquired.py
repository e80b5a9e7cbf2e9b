"""Dates that files tell, and dates that are at odds with them."""

import numpy as np
import pytest
import rasterio

from geofuse.errors import DateMismatchError
from geofuse.rasters.acquired import stated_period
from geofuse.rasters.optical import open_optical

NAMES = [
    ("LC08_L2SP_190028_20210501_20210510_02_T1_SR_B4.TIF", "2021-05-01", "2021-05-01"),
    ("LE07_L2SP_190028_19990801_20200917_02_T1_QA_PIXEL.TIF", "1999-08-01", "1999-08-01"),
    ("T33UUU_20170216T102101_B04.jp2", "2017-02-16", "2017-02-16"),
    ("S2A_MSIL2A_20230601T101031_N0509_R022_T33UUU_20230601T160000.SAFE", "2023-06-01",
     "2023-06-01"),
    ("HLS.S30.T33UUU.2021121T101031.v2.0.B04.tif", "2021-05-01", "2021-05-01"),
    ("MOD09GA.A2020366.h18v04.061.tif", "2020-12-31", "2020-12-31"),
    ("MOD09A1.A2021121.h18v04.061.tif", "2021-05-01", "2021-05-08"),
    ("MCD43A4.A2021121.h18v04.061.tif", "2021-04-23", "2021-05-08"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "first", "last"), NAMES)
def test_a_products_name_tells_its_days(name, first, last):
    period = stated_period({}, f"/data/{name}")
    assert (str(period.first), str(period.last)) == (first, last)


@pytest.mark.parametrize(
    "name", ["scene_20210501.tif", "MOD09GA.A2021999.tif", "LC08_20210501.tif", ""]
)
def test_other_names_tell_nothing(name):
    assert stated_period({"TIFFTAG_DATETIME": "2021:05:01 10:00:00"}, name) is None


def test_tags_go_before_names():
    tags = {"SENSING_TIME": "2021-05-01T10:10:31Z"}
    assert (
        str(stated_period(tags, NAMES[0][0].replace("0501", "0601")).day)
        == "2021-05-01"
    )
    tags = {"RANGEBEGINNINGDATE": "2021-05-01", "RANGEENDINGDATE": "2021-05-08"}
    assert str(stated_period(tags, "").last) == "2021-05-08"


def test_a_date_at_odds_with_the_file_is_refused_and_the_next_day_is_not(raster):
    path = raster(NAMES[0][0], np.ones((1, 2, 2), "uint16"))
    for date in ("2021-05-01", "2021-05-02", "2021-04-30"):
        image = open_optical(path, date=date)
        assert str(image["time"].values)[:10] == date
    with pytest.raises(
        DateMismatchError, match="2021-05-01 by its name, found 2021-06-01"
    ):
        open_optical(path, date="2021-06-01")


def test_a_date_within_the_days_of_a_composite_is_taken(raster):
    path = raster(NAMES[6][0], np.ones((1, 2, 2), "int16"))
    open_optical(path, date="2021-05-06")
    with pytest.raises(DateMismatchError, match="2021-05-01 to 2021-05-08"):
        open_optical(path, date="2021-05-20")


def test_tags_of_the_file_are_looked_at(raster):
    path = raster("scene.tif", np.ones((1, 2, 2), "uint16"))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ACQUISITION_DATE="2021-05-01")
    with pytest.raises(DateMismatchError, match="its tag ACQUISITION_DATE"):
        open_optical(path, date="2021-07-01")
    assert str(open_optical(path)["time"].values)[:10] == "2021-05-01"


def test_without_a_date_anywhere_an_image_has_none(raster):
    image = open_optical(raster("scene.tif", np.ones((1, 2, 2), "uint16")))
    assert "time" not in image.coords
