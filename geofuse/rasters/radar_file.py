"""What a radar file says of itself: polarizations, unit, quantity, day.

No standard says where. Names of bands (`Sigma0_VV_db`, `Gamma0_VH`, `angle`), units of
bands, a few tags, and the names of files of known products are looked at, in this order:

    S1A_IW_20210702T051234_DVP_RTC10_G_gpuned_1A2B_VV.tif     RTC of ASF HyP3:
                                       gamma0, power, …       g/s and p/d/a
    S1A_IW_GRDH_1SDV_20210702T051234_….SAFE                    GRD of ESA
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from geofuse.errors import (
    BandMismatchError,
    DateMismatchError,
    ParameterError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.rasters.acquired import parse_date
from geofuse.rasters.source import RasterFile, name_of

POLARIZATIONS = ("vv", "vh", "hh", "hv")
#: What linear power is made of: power itself, its square root, its logarithm.
UNITS = ("power", "amplitude", "db")
#: Backscatter per area on the ground, across the look, and in the slant plane.
QUANTITIES = ("sigma0", "gamma0", "beta0")

_POLARIZATION = re.compile(r"(?<![a-z])(vv|vh|hh|hv)(?![a-z])")
_ANGLE = re.compile(r"angle|incidence|(?<![a-z])(lia|inc|theta)(?![a-z])")
_QUANTITY = re.compile(
    r"(sigma|gamma|beta)[ _-]?(0|nought|naught)|(gamma|sigma)(?![a-z])"
)
_UNIT = {
    "db": re.compile(r"(?<![a-z])db(?![a-z])|decibel"),
    "amplitude": re.compile(r"amplitude"),
    "power": re.compile(r"(?<![a-z])(power|linear|intensity)(?![a-z])"),
}
_HYP3 = re.compile(r"_rtc\d+_[a-z]_([gs])([pda])[uw][nf][ec][dm]")
_DAY = re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})t\d{6}(?!\d)")
_TAGS = ("units", "unit", "quantity", "backscatter", "calibration", "long_name")
_DATE_TAGS = (
    "datetime",
    "date",
    "acquisition_date",
    "acquisition_time",
    "prediction_date",
)


@dataclass(frozen=True)
class RadarLayout:
    """Which band of a file is what.

    Attributes:
        bands: Polarization and index (from 0) of each band wanted.
        angle: Index of the band of incidence angles, or None.
    """

    bands: tuple[tuple[str, int], ...]
    angle: int | None


def layout_of(file: RasterFile, wanted: list[str] | None) -> RadarLayout:
    """Find which band of a file is which.

    Args:
        file: The file.
        wanted: Polarizations in the order that the image shall have; None for all.

    Raises:
        BandMismatchError: One is not there, or the order of bands is unknown.
        UnknownNameError: There is no such polarization.
    """
    for name in wanted or ():
        if name not in POLARIZATIONS:
            raise UnknownNameError(
                f"expected a polarization, found {name!r}; "
                f"{did_you_mean(name, POLARIZATIONS)}"
            )
    if wanted is not None and (not wanted or len(set(wanted)) != len(wanted)):
        raise BandMismatchError(
            f"expected each polarization once, found {wanted}; name each one time"
        )
    texts = [(text or "").lower() for text in file.descriptions]
    angles = [index for index, text in enumerate(texts) if _ANGLE.search(text)]
    rest = [index for index in range(len(texts)) if index not in angles]
    named: dict[str, int] = {}
    for index in rest:
        for name in _POLARIZATION.findall(texts[index])[:1]:
            named.setdefault(name, index)
    if not named and len(rest) == 1:
        inside = set(_POLARIZATION.findall(name_of(file.path).lower()))
        named = {name: rest[0] for name in inside} if len(inside) == 1 else {}
    if not named:
        if wanted is None or len(wanted) != len(rest):
            raise BandMismatchError(
                f"expected bands named vv, vh, hh or hv, found {len(rest)} without "
                f"such names in {file.path}; name all in the order of the file with "
                "polarizations=['vv', 'vh']"
            )
        named = dict(zip(wanted, rest, strict=True))
    missing = [name for name in wanted or () if name not in named]
    if missing:
        raise BandMismatchError(
            f"expected polarization {missing[0]!r}, found {', '.join(named)} in "
            f"{file.path}; leave it out, or open another file"
        )
    chosen = wanted or sorted(named, key=named.__getitem__)
    return RadarLayout(
        tuple((name, named[name]) for name in chosen), angles[0] if angles else None
    )


def unit_of(file: RasterFile, index: int, given: str | None) -> str | None:
    """Unit of a band as the caller says, else as the file does; None if neither does.

    Raises:
        ParameterError: The caller says what does not exist, or other than the file.
    """
    return _agreed("unit", given, _stated(file, index, _unit_in, 1), UNITS, file)


def quantity_of(file: RasterFile, index: int, given: str | None) -> str | None:
    """sigma0, gamma0 or beta0, as the caller says, else as the file does.

    Raises:
        ParameterError: The caller says what does not exist, or other than the file.
    """
    stated = _stated(file, index, _quantity_in, 0)
    return _agreed("quantity", given, stated, QUANTITIES, file)


def agreed_quantity(given: str | None) -> str | None:
    """A quantity that exists, or None.

    Raises:
        ParameterError: There is none of that name.
    """
    if given is not None and given not in QUANTITIES:
        raise ParameterError(
            f"expected a quantity, found {given!r}; {did_you_mean(given, QUANTITIES)}"
        )
    return given


def day_of(file: RasterFile, given: Any) -> np.datetime64:
    """Day of an image, as the caller says, else as the file does.

    Raises:
        DateMismatchError: Neither says it, or each another one.
    """
    stated = stated_day(file)
    if given is None and stated is None:
        raise DateMismatchError(
            f"expected a date, found none given and none in {file.path}; give "
            "date=2021-07-02"
        )
    return parse_date(given) if stated is None else agreed_day(given, stated, file.path)


def agreed_day(given: Any, stated: np.datetime64, path: str) -> np.datetime64:
    """The day that a product states, if the caller does not say another one.

    Raises:
        DateMismatchError: The caller does.
    """
    if given is not None and parse_date(given) != stated:
        raise DateMismatchError(
            f"expected the date that {path} states, {str(stated)[:10]}, found "
            f"{str(parse_date(given))[:10]} given; leave it out, or look which file "
            "this is"
        )
    return stated


def stated_day(file: RasterFile) -> np.datetime64 | None:
    """Day that a file states in its tags or its name; None if it does not."""
    tags = {name.lower(): value for name, value in file.tags.items()}
    for name in _DATE_TAGS:
        try:
            return parse_date(tags[name])
        except (KeyError, DateMismatchError):
            continue
    found = _DAY.search(name_of(file.path).lower())
    return parse_date("-".join(found.groups())) if found else None


def _stated(file: RasterFile, index: int, search: object, letter: int) -> str | None:
    """The first word on a matter that the file has, nearest to the band first."""
    tags = {name.lower(): value for name, value in file.tags.items()}
    texts = [file.descriptions[index], file.units[index], *map(tags.get, _TAGS)]
    for text in texts:
        if text and (found := search(str(text).lower())):  # type: ignore[operator]
            return str(found)
    name = name_of(file.path).lower()
    hyp3 = _HYP3.search(name)
    if hyp3 is not None:
        letters = {"g": "gamma0", "s": "sigma0", "p": "power", "d": "db"}
        return {**letters, "a": "amplitude"}[hyp3.groups()[1 if letter else 0]]
    return None


def _unit_in(text: str) -> str | None:
    if text.strip() == "1":  # of a ratio: what this package writes for power
        return "power"
    return next((unit for unit, known in _UNIT.items() if known.search(text)), None)


def _quantity_in(text: str) -> str | None:
    found = _QUANTITY.search(text)
    return f"{found.group(1) or found.group(3)}0" if found else None


def _agreed(
    what: str,
    given: str | None,
    stated: str | None,
    known: tuple[str, ...],
    file: RasterFile,
) -> str | None:
    if given is not None and given not in known:
        raise ParameterError(
            f"expected a {what}, found {given!r}; {did_you_mean(given, known)}"
        )
    if given is not None and stated is not None and given != stated:
        raise ParameterError(
            f"expected the {what} that {file.path} states, {stated}, found {given} "
            "given; leave it out"
        )
    return given or stated
