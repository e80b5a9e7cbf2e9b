"""What the bits and classes of quality layers mean, by name: one table a product.

A flag holds where a field of the DN has one of some values. A bit field has a place and
a width; a class layer has one field, the whole DN:

    Landsat QA_PIXEL   bit 3 is 1              "cloud"
    MODIS state_1km    bits 0-1 are 10         "mixed"
    Sentinel-2 SCL     the DN is 8 or 9        "cloud"

The same thing has the same name everywhere: cloud, shadow, cirrus, snow, water. A name
may stand for several flags of a layer; all of them count.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from geofuse.errors import UnknownNameError, did_you_mean


class Flag(NamedTuple):
    """What some values of a field of the DN mean.

    Attributes:
        name: What it is called: cloud, shadow, water.
        values: Values of the field for which it holds.
        shift: Place of the field's lowest bit.
        width: Number of its bits; 0 where the whole DN is a class.
    """

    name: str
    values: tuple[int, ...]
    shift: int = 0
    width: int = 0


@dataclass(frozen=True)
class QualityLayer:
    """A quality layer of a product.

    Args:
        name: Its name here.
        flags: What its bits or classes mean.
        drop: Flags that make a pixel invalid unless others are asked for.
        fill: DN of "no measurement": such pixels are invalid in any case.
        code: What a product calls the layer, where a file holds several.
        title: What it is, in words, with the document that says so.
    """

    name: str
    flags: tuple[Flag, ...]
    drop: tuple[str, ...]
    fill: tuple[int, ...] = ()
    code: str = ""
    title: str = ""

    @property
    def flag_names(self) -> tuple[str, ...]:
        """Names of the flags, each once."""
        return tuple(dict.fromkeys(flag.name for flag in self.flags))

    @property
    def is_classes(self) -> bool:
        """Whether the whole DN is a class: then a class not listed is invalid."""
        return all(flag.width == 0 for flag in self.flags)

    def flags_of(self, names: Iterable[str] | None) -> tuple[Flag, ...]:
        """The flags of some names; by default those that the layer drops.

        Raises:
            UnknownNameError: The layer has no flag of that name.
        """
        wanted = self.drop if names is None else tuple(names)
        for name in wanted:
            if name not in self.flag_names:
                raise UnknownNameError(
                    f"expected flags of {self.name}, found {name!r}; "
                    f"{did_you_mean(name, self.flag_names)}"
                )
        return tuple(flag for flag in self.flags if flag.name in wanted)


def _bit(name: str, place: int) -> Flag:
    return Flag(name, (1,), place, 1)


def _bits(name: str, place: int, width: int, *values: int) -> Flag:
    return Flag(name, values, place, width)


def _classes(name: str, *values: int) -> Flag:
    return Flag(name, values)


LANDSAT_QA_PIXEL = QualityLayer(
    "landsat-qa-pixel",
    (
        _bit("fill", 0),
        _bit("dilated_cloud", 1),
        _bit("cirrus", 2),  # Landsat 8-9 only; unused before
        _bit("cloud", 3),
        _bit("shadow", 4),
        _bit("snow", 5),
        _bit("clear", 6),
        _bit("water", 7),
        _bits("cloud_medium", 8, 2, 2, 3),  # confidence: medium or high
    ),
    drop=("fill", "dilated_cloud", "cirrus", "cloud", "shadow"),
    code="QA_PIXEL",
    title="Landsat Collection 2 pixel quality (USGS LSDS-1619 and LSDS-1618)",
)
LANDSAT_QA_RADSAT = QualityLayer(
    "landsat-qa-radsat",
    (
        *(_bit("saturated", place) for place in range(7)),  # bands 1 to 7
        *(_bit(f"saturated_{place + 1}", place) for place in range(7)),
        _bit("dropped", 9),  # Landsat 4-7
        _bit("terrain_occlusion", 11),  # Landsat 8-9
    ),
    drop=("saturated", "dropped", "terrain_occlusion"),
    code="QA_RADSAT",
    title="Landsat Collection 2 saturation (USGS LSDS-1619 and LSDS-1618)",
)
HLS_FMASK = QualityLayer(
    "hls-fmask",
    (
        _bit("cirrus", 0),  # reserved, and not used, in version 2.0
        _bit("cloud", 1),
        _bit("adjacent", 2),
        _bit("shadow", 3),
        _bit("snow", 4),
        _bit("water", 5),
        _bits("aerosol_moderate", 6, 2, 2, 3),
        _bits("aerosol_high", 6, 2, 3),
    ),
    drop=("cloud", "adjacent", "shadow"),
    fill=(255,),
    code="Fmask",
    title="Harmonized Landsat Sentinel-2 Fmask (HLS product user guide 2.0)",
)
SENTINEL2_SCL = QualityLayer(
    "sentinel2-scl",
    (
        _classes("saturated", 1),
        _classes("dark", 2),
        _classes("shadow", 3),
        _classes("vegetation", 4),
        _classes("bare", 5),
        _classes("water", 6),
        _classes("unclassified", 7),
        _classes("cloud", 8, 9),
        _classes("cloud_medium", 8),
        _classes("cloud_high", 9),
        _classes("cirrus", 10),
        _classes("snow", 11),
    ),
    drop=("saturated", "shadow", "cloud", "cirrus"),
    fill=(0,),
    code="SCL",
    title="Sentinel-2 scene classification (ESA Sentinel-2 Level-2A ATBD)",
)
MODIS_STATE = QualityLayer(
    "modis-state-1km",
    (
        _bits("cloud", 0, 2, 1),
        _bit("cloud", 10),  # the internal cloud algorithm
        _bits("mixed", 0, 2, 2),
        _bit("shadow", 2),
        _bits("water", 3, 3, 0, 3, 4, 5, 6, 7),  # 1 is land, 2 is coast
        _bits("coast", 3, 3, 2),
        _bits("aerosol_high", 6, 2, 3),
        _bits("cirrus", 8, 2, 2, 3),  # average or high
        _bits("cirrus_small", 8, 2, 1),
        _bit("fire", 11),
        _bit("snow", 12),  # MOD35
        _bit("snow", 15),  # internal
        _bit("adjacent", 13),
    ),
    drop=("cloud", "mixed", "shadow", "cirrus"),
    fill=(65535,),
    code="state_1km_1",
    title="MODIS MOD09GA state_1km, MOD09A1 state_500m (MOD09 user guide)",
)
_MODIS_BANDS = ("red", "nir", "blue", "green", "nir1240", "swir1", "swir2")
MODIS_QC = QualityLayer(
    "modis-qc-500m",
    (
        _bits("not_ideal", 0, 2, 1),
        _bits("not_produced", 0, 2, 2, 3),
        # Four bits a band, 0 for highest quality, 7 to 15 for what is wrong.
        *(
            _bits(name, 2 + 4 * number, 4, *range(1, 16))
            for number, name in enumerate(_MODIS_BANDS)
        ),
    ),
    drop=("not_produced", *_MODIS_BANDS),
    fill=(787410671, 4294967295),
    code="QC_500m_1",
    title="MODIS MOD09GA and MOD09A1 reflectance band quality (MOD09 user guide)",
)
MCD43A4_QUALITY = QualityLayer(
    "modis-mcd43a4-quality",
    (_classes("full", 0), _classes("magnitude", 1)),
    drop=(),
    fill=(255,),
    title="MODIS MCD43A4 BRDF_Albedo_Band_Mandatory_Quality (MCD43 user guide)",
)
VIIRS_QF1 = QualityLayer(
    "viirs-qf1",
    (
        _bits("cloud", 2, 2, 3),
        _bits("cloud_medium", 2, 2, 2),  # probably cloudy
        _bit("night", 4),
        _bit("low_sun", 5),
        _bits("sun_glint", 6, 2, 1, 2, 3),
    ),
    drop=("cloud", "cloud_medium"),
    code="SurfReflect_QF1_1",
    title="VIIRS VNP09GA QF1 (VIIRS surface reflectance user guide)",
)
VIIRS_QF2 = QualityLayer(
    "viirs-qf2",
    (
        _bits("water", 0, 3, 2, 3),
        _bits("coast", 0, 3, 5),
        _bit("shadow", 3),
        _bit("aerosol_high", 4),
        _bit("snow", 5),
        _bit("cirrus", 6),  # from reflectance
        _bit("cirrus", 7),  # from emission
    ),
    drop=("shadow", "cirrus"),
    code="SurfReflect_QF2_1",
    title="VIIRS VNP09GA QF2 (VIIRS surface reflectance user guide)",
)
FMASK = QualityLayer(
    "fmask",
    (
        _classes("clear", 0),
        _classes("water", 1),
        _classes("shadow", 2),
        _classes("snow", 3),
        _classes("cloud", 4),
    ),
    drop=("cloud", "shadow"),
    fill=(255,),
    title="CFMask and Fmask 4 classes (Zhu and Woodcock 2012)",
)
OMNICLOUDMASK = QualityLayer(
    "omnicloudmask",
    (
        _classes("clear", 0),
        _classes("cloud", 1, 2),
        _classes("cloud_thick", 1),
        _classes("cloud_thin", 2),
        _classes("shadow", 3),
    ),
    drop=("cloud", "shadow"),
    title="OmniCloudMask classes (Wright et al. 2025)",
)
S2CLOUDLESS = QualityLayer(
    "s2cloudless",
    (_classes("clear", 0), _classes("cloud", 1)),
    drop=("cloud",),
    fill=(255,),
    title="s2cloudless mask: 1 is cloud",
)
S2CLOUDLESS_PROBABILITY = QualityLayer(
    "s2cloudless-probability",
    (
        _classes("clear", *range(40)),
        _classes("cloud", *range(40, 101)),
        _classes("cloud_20", *range(20, 101)),
        _classes("cloud_60", *range(60, 101)),
    ),
    drop=("cloud",),
    fill=(255,),
    title="s2cloudless or Sen2Cor cloud probability in percent: cloud from 40 % on",
)

#: Every quality layer by its name.
QUALITY_LAYERS: dict[str, QualityLayer] = {
    layer.name: layer
    for layer in (
        LANDSAT_QA_PIXEL,
        LANDSAT_QA_RADSAT,
        HLS_FMASK,
        SENTINEL2_SCL,
        MODIS_STATE,
        MODIS_QC,
        MCD43A4_QUALITY,
        VIIRS_QF1,
        VIIRS_QF2,
        FMASK,
        OMNICLOUDMASK,
        S2CLOUDLESS,
        S2CLOUDLESS_PROBABILITY,
    )
}

#: The quality layer that comes with a sensor's product.
_OF_SENSORS = {
    "landsat-c2l2": LANDSAT_QA_PIXEL,
    "landsat457-c2l2": LANDSAT_QA_PIXEL,
    "landsat-c2l2-st": LANDSAT_QA_PIXEL,
    "landsat457-c2l2-st": LANDSAT_QA_PIXEL,
    "sentinel2-l2a": SENTINEL2_SCL,
    "sentinel2-l2a-before-2022": SENTINEL2_SCL,
    "hls-l30": HLS_FMASK,
    "hls-s30": HLS_FMASK,
    "modis-mod09a1": MODIS_STATE,
    "modis-mod09ga": MODIS_STATE,
    "modis-mcd43a4": MCD43A4_QUALITY,
    "viirs-vnp09ga": VIIRS_QF1,
    "viirs-vnp09ga-1km": VIIRS_QF1,
}


def quality_layer_of(text: str | QualityLayer) -> QualityLayer:
    """A quality layer from its name, or from that of the sensor it comes with.

    >>> quality_layer_of("sentinel2-l2a").name
    'sentinel2-scl'

    Raises:
        UnknownNameError: There is no such layer, or the sensor has none.
    """
    if isinstance(text, QualityLayer):
        return text
    layer = QUALITY_LAYERS.get(text) or _OF_SENSORS.get(text)
    if layer is None:
        raise UnknownNameError(
            f"expected a quality layer, or a sensor that has one, found {text!r}; "
            f"{did_you_mean(text, QUALITY_LAYERS)}"
        )
    return layer
