"""Days on which a file was acquired, as its metadata or its product's name tell.

A wrong date moves an image in time, and no method can notice. So what is given is
compared with what a file knows:

    tags        ACQUISITION_DATE, SENSING_TIME, RANGEBEGINNINGDATE and …ENDINGDATE, time
    names       LC08_L2SP_190028_20210501_…, T33UUU_20170216T102101_B04, S2A_MSIL2A_…,
                HLS.S30.T33UUU.2021121T…, MOD09GA.A2021121.…, MCD43A4.A2021121.…
"""

import datetime
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from geofuse.errors import DateMismatchError

#: A day may be that of the place where the file has that of Greenwich.
TOLERANCE_DAYS = 1

_DAY = np.timedelta64(1, "D")
_TAGS = (
    "ACQUISITION_DATE",
    "DATE_ACQUIRED",
    "SENSING_TIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "PRODUCT_START_TIME",
    "RANGEBEGINNINGDATE",
    "time",
)

#: Pattern, format of its day, and days of the period around it.
_NAMES = (
    (r"L[COTEM]0\d_L\d[A-Z]{2}_\d{6}_(\d{8})_", "%Y%m%d", (0, 0)),
    (r"S2[A-D]_MSIL[12][AC]_(\d{8})T\d{6}_", "%Y%m%d", (0, 0)),
    (r"T\d\d[A-Z]{3}_(\d{8})T\d{6}_", "%Y%m%d", (0, 0)),
    (r"HLS\.[LS]30\.T\w{5}\.(\d{7})T", "%Y%j", (0, 0)),
    (r"(?:MOD|MYD|VNP|VJ1|VJ2)09GA\.A(\d{7})\.", "%Y%j", (0, 0)),
    (r"(?:MOD|MYD)09[AQ]1\.A(\d{7})\.", "%Y%j", (0, 7)),
    (r"(?:VNP|VJ1|VJ2)09[AH]1\.A(\d{7})\.", "%Y%j", (0, 7)),
    # Named for the ninth of sixteen days.
    (r"MCD43A4\.A(\d{7})\.", "%Y%j", (-8, 7)),
)


def parse_date(date: str | datetime.date | np.datetime64) -> np.datetime64:
    """A day from an ISO date.

    >>> str(parse_date("2021-07-01"))[:10]
    '2021-07-01'

    Raises:
        DateMismatchError: It is not an ISO date of a day.
    """
    day: Any
    try:
        if isinstance(date, str):
            day = np.datetime64(datetime.date.fromisoformat(date.strip()[:10]))
            if len(date.strip()) > 10:
                datetime.datetime.fromisoformat(date.strip())
            if "-" not in date:
                raise ValueError
        else:
            day = np.asarray(date, "datetime64[D]")[()]
    except (ValueError, TypeError):
        day = np.datetime64("NaT", "D")
    if np.isnat(day):
        raise DateMismatchError(
            f"expected an ISO date like 2021-07-01, found {date!r}; year, month, day"
        )
    return day.astype("datetime64[ns]")


class Period(NamedTuple):
    """Days on which something was acquired.

    Attributes:
        first: First day.
        last: Last day.
        day: The day that stands for the period.
        source: What says so.
    """

    first: np.datetime64
    last: np.datetime64
    day: np.datetime64
    source: str


def stated_period(tags: Mapping[str, str], path: str) -> Period | None:
    """When a file was acquired, by its tags, else by the product's name in its path.

    >>> str(stated_period({}, "MOD09GA.A2021121.h18v04.061.tif").day)
    '2021-05-01'
    """
    for key in _TAGS:
        first = _day_in(tags.get(key, ""))
        if first is not None:
            last = first
            if key == "RANGEBEGINNINGDATE":
                last = _day_in(tags.get("RANGEENDINGDATE", "")) or first
            return Period(first, last, first, f"its tag {key}")
    for pattern, form, (before, after) in _NAMES:
        found = re.findall(pattern, path)
        if found:
            try:
                day = np.datetime64(datetime.datetime.strptime(found[-1], form), "D")
            except ValueError:
                continue
            return Period(day + before * _DAY, day + after * _DAY, day, "its name")
    return None


def checked_day(
    given: np.datetime64 | None, stated: Period | None, path: str
) -> np.datetime64 | None:
    """The day of an image: as given, if that is not at odds with what the file states.

    Raises:
        DateMismatchError: The file states another day.
    """
    if stated is None:
        return given
    if given is None:
        return stated.day.astype("datetime64[ns]")
    day = given.astype("datetime64[D]")
    slack = TOLERANCE_DAYS * _DAY
    if not stated.first - slack <= day <= stated.last + slack:
        states = str(stated.first)
        if stated.last != stated.first:
            states += f" to {stated.last}"
        raise DateMismatchError(
            f"expected the day on which {path} was acquired, {states} by {stated.source}, "
            f"found {day}; give that day, or rename the file if it is wrong"
        )
    return given


def _day_in(text: str) -> np.datetime64 | None:
    found = re.match(r"\s*(\d{4}-\d\d-\d\d)", text)
    if not found:
        return None
    try:
        return np.datetime64(datetime.date.fromisoformat(found[1]), "D")
    except ValueError:
        return None
