"""What each sensor measures: bands by common name, and how DN become physical values.

    reflectance = gain * DN + offset,   NaN where DN is nodata

A sensor is a row of a table. Yours takes three lines:

    >>> mine = Sensor("my-camera", (Band("red", "1", 650), Band("nir", "2", 850)),
    ...               gain=1e-4, nodata=0)
    >>> mine.band_names
    ('red', 'nir')
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from geofuse.errors import (
    BandMismatchError,
    ParameterError,
    UnknownNameError,
    did_you_mean,
)


class Band(NamedTuple):
    """A band of a sensor.

    Attributes:
        name: Common name, as users ask for it: red, nir, swir1.
        code: What the product calls it: SR_B4, B8A, sur_refl_b01.
        center_nm: Center wavelength in nanometers.
    """

    name: str
    code: str
    center_nm: float


@dataclass(frozen=True)
class Sensor:
    """How a product's DN become physical values, and what its bands are called.

    Args:
        name: Its name on the command line.
        bands: Bands in the order of the product; empty: b1, b2, … as the file has them.
        gain: Physical value per DN; None takes the file's own scale (1 where it has
            none).
        offset: Physical value at DN 0; None takes the file's own offset.
        nodata: DN that means "no measurement", beside the one that the file states.
        gsd: Ground sampling distance in meters; None if it varies.
        title: What it is, in words.
        quantity: What is measured: reflectance, or temperature in kelvin.
    """

    name: str
    bands: tuple[Band, ...] = ()
    gain: float | None = None
    offset: float | None = None
    nodata: float | None = None
    gsd: float | None = None
    title: str = ""
    quantity: str = "reflectance"

    def __post_init__(self) -> None:
        """Refuse a gain or offset that makes no sense."""
        for field in ("gain", "offset"):
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                raise ParameterError(
                    f"expected a finite {field}, found {value}; reflectance = gain * "
                    "DN + offset"
                )
        if self.gain == 0:
            raise ParameterError(
                "expected a gain that is not 0, found 0; for DN of reflectance x 10000 "
                "give gain=1e-4"
            )

    @property
    def band_names(self) -> tuple[str, ...]:
        """Common names of the bands, in the order of the product."""
        return tuple(band.name for band in self.bands)


_OLI = (
    Band("coastal", "SR_B1", 443),
    Band("blue", "SR_B2", 482),
    Band("green", "SR_B3", 561),
    Band("red", "SR_B4", 655),
    Band("nir", "SR_B5", 865),
    Band("swir1", "SR_B6", 1609),
    Band("swir2", "SR_B7", 2201),
)
_TM = (
    Band("blue", "SR_B1", 485),
    Band("green", "SR_B2", 560),
    Band("red", "SR_B3", 660),
    Band("nir", "SR_B4", 830),
    Band("swir1", "SR_B5", 1650),
    Band("swir2", "SR_B7", 2215),
)
_MSI = (
    Band("coastal", "B01", 443),
    Band("blue", "B02", 492),
    Band("green", "B03", 560),
    Band("red", "B04", 665),
    Band("rededge1", "B05", 704),
    Band("rededge2", "B06", 741),
    Band("rededge3", "B07", 783),
    Band("nir", "B08", 833),
    Band("nir08", "B8A", 865),
    Band("nir09", "B09", 945),
    Band("swir1", "B11", 1614),
    Band("swir2", "B12", 2202),
)
_MODIS = (
    Band("red", "sur_refl_b01", 645),
    Band("nir", "sur_refl_b02", 859),
    Band("blue", "sur_refl_b03", 469),
    Band("green", "sur_refl_b04", 555),
    Band("nir1240", "sur_refl_b05", 1240),
    Band("swir1", "sur_refl_b06", 1640),
    Band("swir2", "sur_refl_b07", 2130),
)
_MCD43 = tuple(
    band._replace(code=f"Nadir_Reflectance_Band{number}")
    for number, band in enumerate(_MODIS, start=1)
)
_HLS_L30 = tuple(
    band._replace(code=f"B{number:02d}") for number, band in enumerate(_OLI, start=1)
)
_HLS_S30 = _MSI
_MSI_L1C = (*_MSI[:10], Band("cirrus", "B10", 1374), *_MSI[10:])
_VIIRS_I = (
    Band("red", "SurfReflect_I1", 640),
    Band("nir", "SurfReflect_I2", 865),
    Band("swir1", "SurfReflect_I3", 1610),
)
_VIIRS_M = (
    Band("violet", "SurfReflect_M1", 412),
    Band("coastal", "SurfReflect_M2", 445),
    Band("blue", "SurfReflect_M3", 488),
    Band("green", "SurfReflect_M4", 555),
    Band("red", "SurfReflect_M5", 672),
    Band("nir", "SurfReflect_M7", 865),
    Band("nir1240", "SurfReflect_M8", 1240),
    Band("swir1", "SurfReflect_M10", 1610),
    Band("swir2", "SurfReflect_M11", 2250),
)
_SYN = (
    Band("coastal", "SDR_Oa03", 443),
    Band("blue", "SDR_Oa04", 490),
    Band("green", "SDR_Oa06", 560),
    Band("red", "SDR_Oa08", 665),
    Band("rededge1", "SDR_Oa11", 709),
    Band("rededge3", "SDR_Oa16", 779),
    Band("nir", "SDR_Oa17", 865),
    Band("nir1020", "SDR_Oa21", 1020),
)

GENERIC = Sensor(
    "generic", title="any raster: gain, offset and nodata as given or stored"
)
LANDSAT_C2L2 = Sensor(
    "landsat-c2l2",
    _OLI,
    gain=2.75e-5,
    offset=-0.2,
    nodata=0,
    gsd=30,
    title="Landsat 8-9 Collection 2 Level 2 surface reflectance",
)
LANDSAT457_C2L2 = Sensor(
    "landsat457-c2l2",
    _TM,
    gain=2.75e-5,
    offset=-0.2,
    nodata=0,
    gsd=30,
    title="Landsat 4-7 Collection 2 Level 2 surface reflectance",
)
SENTINEL2_L2A = Sensor(
    "sentinel2-l2a",
    _MSI,
    gain=1e-4,
    offset=-0.1,
    nodata=0,
    gsd=10,
    title="Sentinel-2 Level 2A from processing baseline 04.00 on (2022-01-25)",
)
SENTINEL2_L2A_BEFORE_2022 = Sensor(
    "sentinel2-l2a-before-2022",
    _MSI,
    gain=1e-4,
    offset=0.0,
    nodata=0,
    gsd=10,
    title="Sentinel-2 Level 2A before processing baseline 04.00, or with the offset "
    "already applied",
)
SENTINEL2_L1C = Sensor(
    "sentinel2-l1c",
    _MSI_L1C,
    gain=1e-4,
    offset=-0.1,
    nodata=0,
    gsd=10,
    title="Sentinel-2 Level 1C, reflectance at the top of the atmosphere",
)
LANDSAT_C2L2_ST = Sensor(
    "landsat-c2l2-st",
    (Band("thermal", "ST_B10", 10895),),
    gain=0.00341802,
    offset=149.0,
    nodata=0,
    gsd=30,
    title="Landsat 8-9 Collection 2 Level 2 surface temperature in kelvin",
    quantity="temperature",
)
LANDSAT457_C2L2_ST = Sensor(
    "landsat457-c2l2-st",
    (Band("thermal", "ST_B6", 11450),),
    gain=0.00341802,
    offset=149.0,
    nodata=0,
    gsd=30,
    title="Landsat 4-7 Collection 2 Level 2 surface temperature in kelvin",
    quantity="temperature",
)
VIIRS_GA = Sensor(
    "viirs-vnp09ga",
    _VIIRS_I,
    gain=1e-4,
    offset=0.0,
    nodata=-28672,
    gsd=463.3127,
    title="VIIRS VNP09GA/VJ109GA surface reflectance, daily, imagery bands",
)
VIIRS_GA_1KM = Sensor(
    "viirs-vnp09ga-1km",
    _VIIRS_M,
    gain=1e-4,
    offset=0.0,
    nodata=-28672,
    gsd=926.6254,
    title="VIIRS VNP09GA/VJ109GA surface reflectance, daily, moderate bands",
)
SENTINEL3_SYN = Sensor(
    "sentinel3-syn",
    _SYN,
    nodata=-10000,
    gsd=300,
    title="Sentinel-3 SYN Level 2 surface reflectance, with the scale that the file states",
)
MODIS_A1 = Sensor(
    "modis-mod09a1",
    _MODIS,
    gain=1e-4,
    offset=0.0,
    nodata=-28672,
    gsd=463.3127,
    title="MODIS MOD09A1/MYD09A1 surface reflectance, 8 days",
)
MODIS_GA = Sensor(
    "modis-mod09ga",
    _MODIS,
    gain=1e-4,
    offset=0.0,
    nodata=-28672,
    gsd=463.3127,
    title="MODIS MOD09GA/MYD09GA surface reflectance, daily",
)
MODIS_MCD43A4 = Sensor(
    "modis-mcd43a4",
    _MCD43,
    gain=1e-4,
    offset=0.0,
    nodata=32767,
    gsd=463.3127,
    title="MODIS MCD43A4 nadir BRDF-adjusted reflectance; its date is the 9th of 16 "
    "days",
)
HLS_L30 = Sensor(
    "hls-l30",
    _HLS_L30,
    gain=1e-4,
    offset=0.0,
    nodata=-9999,
    gsd=30,
    title="Harmonized Landsat Sentinel-2, Landsat side",
)
HLS_S30 = Sensor(
    "hls-s30",
    _HLS_S30,
    gain=1e-4,
    offset=0.0,
    nodata=-9999,
    gsd=30,
    title="Harmonized Landsat Sentinel-2, Sentinel-2 side",
)

#: Every sensor by its name on the command line.
SENSORS: dict[str, Sensor] = {
    sensor.name: sensor
    for sensor in (
        GENERIC,
        LANDSAT_C2L2,
        LANDSAT457_C2L2,
        SENTINEL2_L2A,
        SENTINEL2_L2A_BEFORE_2022,
        SENTINEL2_L1C,
        LANDSAT_C2L2_ST,
        LANDSAT457_C2L2_ST,
        MODIS_A1,
        MODIS_GA,
        MODIS_MCD43A4,
        VIIRS_GA,
        VIIRS_GA_1KM,
        SENTINEL3_SYN,
        HLS_L30,
        HLS_S30,
    )
}

#: Other common names for the same bands, as STAC has them.
SYNONYMS = {"swir16": "swir1", "swir22": "swir2", "nir08": "nir", "nir": "nir08"}


def sensor_of(text: str | Sensor) -> Sensor:
    """A sensor from its name, or from `gain=…,offset=…,nodata=…`.

    >>> sensor_of("landsat-c2l2").offset
    -0.2
    >>> sensor_of("gain=1e-4,nodata=-9999").gain
    0.0001

    Raises:
        UnknownNameError: There is no sensor or parameter of that name.
        ParameterError: A parameter is not a number.
    """
    if isinstance(text, Sensor):
        return text
    if "=" not in text:
        if text not in SENSORS:
            raise UnknownNameError(
                f"expected a sensor, or gain=…,offset=…,nodata=…, found {text!r}; "
                f"{did_you_mean(text, SENSORS)}"
            )
        return SENSORS[text]
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in ("gain", "offset", "nodata"):
            raise UnknownNameError(
                f"expected gain=…, offset=… or nodata=…, found {part!r}; for example "
                "gain=1e-4,offset=0,nodata=-9999"
            )
        try:
            values[name] = float(number)
        except ValueError:
            raise ParameterError(
                f"expected a number for {name}, found {number!r}; for example "
                "gain=1e-4,offset=0,nodata=-9999"
            ) from None
    return Sensor("generic", title=text, **values)


def select_bands(
    sensor: Sensor,
    descriptions: Sequence[str | None],
    wanted: Sequence[str] | None,
    *,
    path: str,
) -> list[tuple[str, int]]:
    """Find which band of a file is which.

    A file tells its bands by their descriptions (common name, or the product's code),
    else by having exactly the sensor's bands, else by having exactly the wanted ones,
    in that order. For the generic sensor bands are b1, b2, …, and `wanted` names them.

    Args:
        sensor: What wrote the file.
        descriptions: What the file calls its bands, one entry a band.
        wanted: Common names in the order that the image shall have; None for all.
        path: Named in messages.

    Returns:
        Name and index (from 0) in the file of each band of the image.

    Raises:
        BandMismatchError: A band is not there, or the order in the file is unknown.
    """
    count = len(descriptions)
    wanted = None if wanted is None else list(wanted)
    if wanted is not None and (not wanted or len(set(wanted)) != len(wanted)):
        raise BandMismatchError(
            f"expected each band once, found {wanted}; name each band one time"
        )
    described = {_plain(text): index for index, text in enumerate(descriptions) if text}
    if not sensor.bands:
        numbered = {f"b{index + 1}": index for index in range(count)}
        if wanted is None:
            return list(numbered.items())
        for known in (numbered, described):
            if all(_plain(name) in known for name in wanted):
                return [(name, known[_plain(name)]) for name in wanted]
        if len(wanted) == count:
            return list(zip(wanted, range(count), strict=True))
        raise BandMismatchError(
            f"expected {len(wanted)} bands {wanted}, found {count} in {path}; name all "
            f"{count} in the order of the file, or choose from {', '.join(numbered)}"
        )
    indexes: dict[str, int] = {}
    for band in sensor.bands:
        # Daily products count their observations: sur_refl_b01_1, SurfReflect_I1_1.
        for text in (band.name, band.code, f"{band.code}_1"):
            if _plain(text) in described:
                indexes.setdefault(band.name, described[_plain(text)])
    if not indexes:
        names = sensor.band_names if count == len(sensor.bands) else wanted
        if names is None or len(names) != count:
            raise BandMismatchError(
                f"expected bands of {sensor.name} ({', '.join(sensor.band_names)}), "
                f"found {count} bands without known names in {path}; name them in the "
                "order of the file with bands=[…], or --bands"
            )
        indexes = {name: index for index, name in enumerate(names)}
    if wanted is None:
        return sorted(indexes.items(), key=lambda item: item[1])
    found = []
    for name in wanted:
        known_as = name if name in indexes else SYNONYMS.get(name, name)
        if known_as not in indexes:
            raise BandMismatchError(
                f"expected band {name!r}, found {', '.join(indexes)} in {path}; "
                f"{did_you_mean(name, indexes)}"
            )
        found.append((name, indexes[known_as]))
    return found


def _plain(text: str) -> str:
    return text.strip().lower()
