"""The ground of a simulated scene: covers, parcels, and how they change.

Regions between roads are Voronoi cells of a jittered lattice; each is cut into parcels
along a direction of its own. Forests, towns and rivers lie over them. Every cover has a
dry and a green spectrum, and between them a double logistic curve over the day of the
year:

    green(t) = 1 / (1 + exp(-(t - start) / rise)) - 1 / (1 + exp(-(t - end) / fall))

Start, end and vigor differ by parcel, so fields of one crop change alike but not
equally (gradual change); some parcels are harvested or plowed, some forest is cut
(abrupt change).

Double logistic curves of vegetation: Beck et al. (2006), Remote Sensing of Environment
100, 321-334.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy import ndimage

from geofuse.synthetic.noise import Noise, stream, strips

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")


class _Cover(NamedTuple):
    """One land cover: two spectra (order of BANDS) and the curve between them."""

    dry: tuple[float, ...]
    green: tuple[float, ...]
    start: float  # day of year at which it is half green
    rise: float  # days; small is sudden
    end: float
    fall: float
    shade: float  # relative brightness change by relief
    grain: float  # relative brightness change from pixel to pixel
    cut: float  # its rate of abrupt change over that of fields


# Typical reflectance of the covers, chosen to look right; not taken from a library.
_COVERS: Mapping[str, _Cover] = MappingProxyType(
    {
        "winter crop": _Cover(
            (0.085, 0.135, 0.190, 0.300, 0.340, 0.240),
            (0.030, 0.065, 0.038, 0.430, 0.190, 0.085),
            *(80, 12, 178, 7, 0.02, 0.02, 1),
        ),
        "summer crop": _Cover(
            (0.070, 0.095, 0.135, 0.200, 0.275, 0.230),
            (0.028, 0.070, 0.032, 0.480, 0.200, 0.085),
            *(152, 11, 262, 9, 0.02, 0.02, 1),
        ),
        "meadow": _Cover(
            (0.060, 0.100, 0.120, 0.260, 0.290, 0.190),
            (0.033, 0.078, 0.048, 0.390, 0.215, 0.105),
            *(85, 12, 215, 22, 0.05, 0.03, 1),
        ),
        "fallow": _Cover(
            (0.085, 0.115, 0.160, 0.230, 0.310, 0.270),
            (0.050, 0.085, 0.090, 0.300, 0.250, 0.160),
            *(130, 15, 225, 15, 0.02, 0.03, 1),
        ),
        "broadleaf": _Cover(
            (0.035, 0.052, 0.060, 0.180, 0.180, 0.105),
            (0.018, 0.043, 0.024, 0.370, 0.150, 0.062),
            *(125, 7, 290, 10, 0.13, 0.07, 0.25),
        ),
        "conifer": _Cover(
            (0.018, 0.030, 0.024, 0.190, 0.095, 0.042),
            (0.016, 0.030, 0.020, 0.240, 0.095, 0.040),
            *(120, 15, 300, 15, 0.16, 0.09, 0.25),
        ),
        "built": _Cover(
            (0.110, 0.130, 0.145, 0.200, 0.220, 0.200),
            (0.075, 0.100, 0.105, 0.260, 0.210, 0.165),
            *(110, 15, 290, 15, 0.0, 0.22, 0),
        ),
        "road": _Cover(
            (0.105, 0.120, 0.130, 0.170, 0.200, 0.185),
            (0.080, 0.100, 0.105, 0.210, 0.195, 0.160),
            *(110, 15, 290, 15, 0.0, 0.06, 0),
        ),
        "water": _Cover(
            (0.045, 0.055, 0.040, 0.022, 0.012, 0.008),
            (0.040, 0.060, 0.038, 0.020, 0.010, 0.007),
            *(150, 30, 260, 30, 0.0, 0.02, 0),
        ),
    }
)
_NUMBER = {name: i for i, name in enumerate(_COVERS)}

# Ground after abrupt change: stubble, or plowed wet soil; parcels lie in between.
_STUBBLE = (0.105, 0.150, 0.205, 0.310, 0.370, 0.290)
_PLOWED = (0.045, 0.062, 0.085, 0.130, 0.185, 0.165)

_KINDS = 4096  # parcels draw their properties from a table of this many
_REGION = 56.0  # px: spacing of the regions


class Landscape(NamedTuple):
    """What does not change: cover and parcel of each pixel, patterns, parcel tables."""

    seed: int
    kind: Int32[np.ndarray, "y x"]  # cover * _KINDS + parcel
    vigor: Float32[np.ndarray, "y x"]  # pattern of growth within fields
    texture: Float32[np.ndarray, "y x"]  # relative brightness
    parcel_vigor: Float[np.ndarray, " kind"]
    parcel_delay: Float[np.ndarray, " kind"]  # days
    parcel_soil: Float[np.ndarray, " kind"]
    parcel_rank: Float[np.ndarray, " kind"]  # changes where below the rate
    parcel_event: Float[np.ndarray, " kind"]  # day of year of the abrupt change
    parcel_plowed: Float[np.ndarray, " kind"]  # 0 stubble to 1 plowed
    abrupt: float


def draw_landscape(
    seed: int, shape: tuple[int, int], *, abrupt: float, span: tuple[int, int]
) -> Landscape:
    """Draw the ground; abrupt change falls within the days of `span`."""
    rng = stream(seed, "parcels")
    crop = rng.choice(4, size=(2, _KINDS), p=(0.34, 0.34, 0.24, 0.08)).astype(np.int32)
    # Seven parcels of ten grow what is usual in their region, so that coarse pixels
    # show a change of their own and not only the mean of all crops.
    usual = rng.uniform(0, 1, _KINDS) < 0.7
    patterns = {
        name: Noise(seed, name, shape, wavelength, octaves)
        for name, wavelength, octaves in (
            ("bend y", 90.0, 2),
            ("bend x", 90.0, 2),
            ("relief", 48.0, 4),
            ("forest", 90.0, 5),
            ("height", 140.0, 2),
            ("town", 120.0, 3),
            ("river", 260.0, 4),
            ("vigor", 14.0, 3),
            ("grain", 2.0, 1),
        )
    }
    sites = _Regions(seed, shape)
    shade, grain = (
        np.array([getattr(cover, field) for cover in _COVERS.values()], np.float32)
        for field in ("shade", "grain")
    )
    kind = np.empty(shape, np.int32)
    vigor = np.empty(shape, np.float32)
    texture = np.empty(shape, np.float32)
    for rows in strips(shape[0]):
        here = {name: pattern.rows(rows) for name, pattern in patterns.items()}
        region, parcel, road = sites.parcels(rows, here["bend y"], here["bend x"])
        grown = np.where(usual[parcel], crop[0][region], crop[1][parcel])
        cover = _covers(grown, road, here)
        kind[rows] = cover * _KINDS + parcel
        vigor[rows] = 0.09 * here["vigor"]
        texture[rows] = shade[cover] * here["relief"] + grain[cover] * here["grain"]
    return Landscape(
        seed=seed,
        kind=kind,
        vigor=vigor,
        texture=texture,
        parcel_vigor=rng.uniform(0.8, 1.05, _KINDS),
        parcel_delay=rng.normal(0, 4, _KINDS),
        parcel_soil=rng.uniform(0.85, 1.15, _KINDS),
        parcel_rank=rng.uniform(0, 1, _KINDS),
        parcel_event=rng.uniform(*span, _KINDS),
        parcel_plowed=rng.uniform(0, 1, _KINDS),
        abrupt=abrupt,
    )


def true_reflectance(
    landscape: Landscape, band: str, day: int, weather: Float32[np.ndarray, "y x"]
) -> Float32[np.ndarray, "y x"]:
    """Reflectance of a band on a day of the year, as a perfect fine sensor sees it."""
    b = BANDS.index(band)
    level = np.empty(len(_COVERS) * _KINDS, np.float32)
    slope = np.empty(len(_COVERS) * _KINDS, np.float32)
    bare = (
        _STUBBLE[b] + (_PLOWED[b] - _STUBBLE[b]) * landscape.parcel_plowed
    ) * landscape.parcel_soil
    for i, cover in enumerate(_COVERS.values()):
        late = day - landscape.parcel_delay
        green = _logistic((late - cover.start) / cover.rise) - _logistic(
            (late - cover.end) / cover.fall
        )
        dry = cover.dry[b] * landscape.parcel_soil
        gone = (landscape.parcel_rank < landscape.abrupt * cover.cut) & (
            landscape.parcel_event <= day
        )
        growth = (cover.green[b] - dry) * green
        here = slice(i * _KINDS, (i + 1) * _KINDS)
        level[here] = np.where(gone, bare, dry + growth * landscape.parcel_vigor)
        slope[here] = np.where(gone, 0, growth)
    true = np.empty(landscape.kind.shape, np.float32)
    for rows in strips(landscape.kind.shape[0]):
        kind = landscape.kind[rows]
        strip = level[kind] + slope[kind] * landscape.vigor[rows]
        strip *= 1 + landscape.texture[rows]
        strip *= 1 + weather[rows]
        true[rows] = np.maximum(strip, np.float32(0.001))
    # A fine pixel sees a little of its neighbors too, so parcels have no hard edges.
    return ndimage.gaussian_filter(true, 0.5, output=np.float32)


def weather_of(landscape: Landscape, day: int) -> Float32[np.ndarray, "y x"]:
    """Air and moisture, smooth over space and new on each day: relative brightness."""
    shape = landscape.kind.shape
    noise = Noise(landscape.seed, f"weather {day}", shape, 220.0, 2)
    return np.float32(0.02) * np.concatenate([*map(noise.rows, strips(shape[0]))])


def _covers(
    crop: Int32[np.ndarray, "y x"],
    road: Bool[np.ndarray, "y x"],
    patterns: Mapping[str, Float32[np.ndarray, "y x"]],
) -> Int32[np.ndarray, "y x"]:
    """Number of the cover of each pixel; later lines lie over earlier ones."""
    cover = crop.copy()  # the fields come first in the table
    river = np.abs(patterns["river"])
    cover[river < 0.09] = _NUMBER["meadow"]
    forest = (patterns["forest"] > 0.8) | ((river > 0.035) & (river < 0.05))
    cover[forest] = _NUMBER["broadleaf"]
    cover[forest & (patterns["height"] + 0.4 * patterns["relief"] > 0.3)] = _NUMBER[
        "conifer"
    ]
    cover[patterns["town"] > 1.75] = _NUMBER["built"]
    cover[road] = _NUMBER["road"]
    cover[river < 0.022] = _NUMBER["water"]
    return cover


class _Regions:
    """Regions, Voronoi cells of a jittered lattice, each cut into rows of parcels."""

    def __init__(self, seed: int, shape: tuple[int, int]) -> None:
        rng = stream(seed, "regions")
        cells = (int(shape[0] / _REGION) + 5, int(shape[1] / _REGION) + 5)
        lattice = np.indices(cells, np.float32)
        self._columns = cells[1]
        jitter = rng.uniform(-0.4, 0.4, (2, *cells)).astype(np.float32)
        self._y, self._x = ((lattice + 0.5 + jitter - 2) * _REGION).reshape(2, -1)
        count = cells[0] * cells[1]
        angle = rng.uniform(0, np.pi, count)
        self._cosine = np.cos(angle).astype(np.float32)
        self._sine = np.sin(angle).astype(np.float32)
        self._width = rng.uniform(6, 15, count).astype(np.float32)  # px
        self._length = rng.uniform(14, 36, count).astype(np.float32)  # px
        self._row_phase = rng.uniform(0, 1, _KINDS).astype(np.float32)

    def parcels(
        self,
        rows: slice,
        bend_y: Float32[np.ndarray, "y x"],
        bend_x: Float32[np.ndarray, "y x"],
    ) -> tuple[
        Int32[np.ndarray, "y x"], Int32[np.ndarray, "y x"], Bool[np.ndarray, "y x"]
    ]:
        """Region and parcel of each pixel, 0 to _KINDS - 1, and where roads are."""
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 5 * bend_y
        x = np.arange(bend_x.shape[1], dtype=np.float32)[None] + 5 * bend_x
        cell_y = np.clip(np.floor(y / _REGION).astype(np.int32) + 2, 1, None)
        cell_x = np.clip(np.floor(x / _REGION).astype(np.int32) + 2, 1, None)
        last_y, last_x = self._y.size // self._columns - 2, self._columns - 2
        center = np.minimum(cell_y, last_y) * self._columns + np.minimum(cell_x, last_x)
        near = np.full(y.shape, np.inf, np.float32)
        next_near = near.copy()
        region, neighbor = center.copy(), center.copy()
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                site = center + np.int32(down * self._columns + right)
                distance = (y - self._y[site]) ** 2 + (x - self._x[site]) ** 2
                first = distance < near
                second = ~first & (distance < next_near)
                next_near = np.where(first, near, np.where(second, distance, next_near))
                neighbor = np.where(first, region, np.where(second, site, neighbor))
                near = np.where(first, distance, near)
                region = np.where(first, site, region)
        apart = np.hypot(
            self._y[region] - self._y[neighbor], self._x[region] - self._x[neighbor]
        )
        # Distance to the border of two Voronoi cells; two borders of three have a road.
        border = (next_near - near) / np.maximum(2 * apart, 1e-3)
        road = (border < 0.75) & (_mixed(region + neighbor, 0, 0) % 3 > 0)

        y -= self._y[region]
        x -= self._x[region]
        along = x * self._cosine[region] + y * self._sine[region]
        across = y * self._cosine[region] - x * self._sine[region]
        row = np.floor(across / self._length[region]).astype(np.int32)
        phase = self._row_phase[_mixed(region, row, 1)]
        width = self._width[region] * (np.float32(0.7) + np.float32(0.6) * phase)
        number = np.floor(along / width + phase).astype(np.int32)
        return _mixed(region, 0, 0), _mixed(region, row, number + 2), road


def _mixed(a: np.ndarray, b: np.ndarray | int, c: np.ndarray | int) -> np.ndarray:
    """Three whole numbers mixed into one of 0 to _KINDS - 1, neighbors unlike."""
    h = np.asarray(a).astype(np.uint32) * np.uint32(0x9E3779B1)
    for number in (b, c):
        h ^= np.asarray(number).astype(np.int32).astype(np.uint32)
        h ^= h >> np.uint32(15)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
    return (h >> np.uint32(20)).astype(np.int32)


def _logistic(t: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(t, -50, 50)))
