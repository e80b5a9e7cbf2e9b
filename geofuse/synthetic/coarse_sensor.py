"""The coarse sensor of a training scene: how it blurs, misses, colors and is resampled.

It is linear and separable, so an image of cells is `rows @ ground @ columns.T` with the
weights of each cell over the pixels, and the image on the fine grid likewise:

    cell k sees pixel j with weight  G((j - start_k) / s) - G((j - end_k) / s)

where G is the distribution function of the Gaussian point spread of standard deviation s;
without a point spread it is the plain area mean.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.special import ndtr

from geofuse.synthetic.parcels import smooth_field
from geofuse.synthetic.training_ground import log_uniform

_FWHM = 2 * math.sqrt(2 * math.log(2))


class CoarseSensor(NamedTuple):
    """What stays the same at all dates; lengths in coarse pixels, (y, x)."""

    scale: int
    clean: bool  # exact block means, nothing else
    resampling: str  # blocks, regridded, bilinear or bicubic
    fwhm: tuple[float, float]
    phase: tuple[float, float]  # of the lattice of cells against the scene, 0 to 1
    shift: tuple[float, float]
    own_shift: float  # another one of each date, up to this
    gain: Float[np.ndarray, " band"]
    offset: Float[np.ndarray, " band"]  # in spreads
    own: float  # what gain and offset differ by date
    noise: float  # in spreads
    correlated: float  # share of the noise, in variance, that is smooth

    @property
    def margin(self) -> int:
        """Cells around the image that the sensor sees."""
        if self.clean:
            return 0
        return 3 if self.scale <= 16 else 2


def draw_coarse_sensor(rng: np.random.Generator, bands: int, size: int) -> CoarseSensor:
    """A sensor; one of five is clean."""
    scales = [scale for scale in _SCALES if scale <= max(size // 3, 4)]
    odds = np.array([_SCALES[scale] for scale in scales], float)
    scale = int(rng.choice(scales, p=odds / odds.sum()))
    clean = rng.uniform() < 0.2
    resampling = str(
        rng.choice(
            ("blocks", "regridded", "bilinear", "bicubic"), p=(0.5, 0.1, 0.2, 0.2)
        )
    )
    wide = 1.0 + (rng.uniform(0, 0.6) if rng.uniform() < 0.3 else 0.0)
    fwhm = 0.0 if rng.uniform() < 0.15 else rng.uniform(0, 1.6)
    far = 1.0 if rng.uniform() < 0.1 else 0.5
    reach, turn = far * rng.uniform() ** 1.5, rng.uniform(0, 2 * math.pi)
    nested = resampling == "blocks"
    biased = log_uniform(rng, 0.01, 0.5)
    return CoarseSensor(
        scale=scale,
        clean=bool(clean),
        resampling="blocks" if clean else resampling,
        fwhm=(fwhm, min(fwhm * wide, 1.8)),
        phase=(0.0, 0.0) if nested else (rng.uniform(), rng.uniform()),
        shift=(reach * math.sin(turn), reach * math.cos(turn)),
        own_shift=log_uniform(rng, 0.01, 0.2),
        gain=np.exp(rng.normal(0, 0.3 * biased, bands)),
        offset=rng.normal(0, biased, bands),
        own=log_uniform(rng, 0.005, 0.15),
        noise=log_uniform(rng, 0.01, 0.4),
        correlated=rng.uniform() if rng.uniform() < 0.5 else 0.0,
    )


class Coarse(NamedTuple):
    """A sensor at one date, over one ground: the weights and what is special that day."""

    sensor: CoarseSensor
    see: tuple[Float32[np.ndarray, "cell pixel"], Float32[np.ndarray, "cell pixel"]]
    lay: tuple[Float32[np.ndarray, "pixel cell"], Float32[np.ndarray, "pixel cell"]]

    def cells(
        self, ground: Float32[np.ndarray, "band gy gx"]
    ) -> Float32[np.ndarray, "band cy cx"]:
        """What each cell sees of the ground."""
        if self.sensor.clean:
            scale = self.sensor.scale
            bands, height, width = ground.shape
            blocks = ground.reshape(
                bands, height // scale, scale, width // scale, scale
            )
            return blocks.mean(axis=(2, 4), dtype=np.float64).astype(np.float32)
        return self.see[0] @ ground @ self.see[1].T

    def recorded(
        self,
        rng: np.random.Generator,
        cells: Float32[np.ndarray, "band cy cx"],
        spread: Float32[np.ndarray, " band"],
    ) -> Float32[np.ndarray, "band cy cx"]:
        """Cells with the gain, offset and noise of the sensor and of the day."""
        if self.sensor.clean:
            return cells
        bands, *shape = cells.shape
        of_day = self.sensor.own * rng.standard_normal((2, bands))
        gain = self.sensor.gain * (1 + 0.3 * of_day[0])
        middle = np.median(cells, axis=(1, 2))
        offset = (self.sensor.offset + of_day[1]) * spread + (1 - gain) * middle
        noise: np.ndarray = rng.standard_normal(cells.shape, dtype=np.float32)
        if self.sensor.correlated:
            share = self.sensor.correlated
            size = (shape[0], shape[1])
            wavelength = log_uniform(rng, 1.0, 5.0)
            smooth = np.stack(
                [smooth_field(rng, size, wavelength, 2) for _ in range(bands)]
            )
            noise = math.sqrt(1 - share) * noise + math.sqrt(share) * smooth
        amount = (self.sensor.noise * spread)[:, None, None]
        recorded = gain[:, None, None] * cells + offset[:, None, None] + amount * noise
        return recorded.astype(np.float32)

    def on_fine_grid(
        self,
        cells: Float32[np.ndarray, "band cy cx"],
        hidden: Bool[np.ndarray, "cy cx"],
    ) -> Float32[np.ndarray, "band y x"]:
        """The cells laid on the fine grid; NaN where a hidden cell takes part."""
        laid = self.lay[0] @ cells @ self.lay[1].T
        if hidden.any():
            # Half a weight: where a hidden cell is the nearest one, or most of the sum.
            covered = self.lay[0] @ hidden.astype(np.float32) @ self.lay[1].T
            laid[:, covered > 0.49] = np.nan
        return laid


def coarse_of(rng: np.random.Generator, sensor: CoarseSensor, size: int) -> Coarse:
    """The weights of a sensor at one date over a scene of `size` fine pixels."""
    turn = rng.uniform(0, 2 * math.pi)
    own = [sensor.own_shift * f(turn) for f in (math.sin, math.cos)]
    see, lay = [], []
    for axis in range(2):
        away = 0.0 if sensor.clean else sensor.shift[axis] + own[axis]
        see.append(_seen(sensor, axis, away, size))
        lay.append(_laid(sensor, axis, size))
    return Coarse(sensor, (see[0], see[1]), (lay[0], lay[1]))


def cell_count(sensor: CoarseSensor, size: int) -> int:
    """Cells along a side of the ground, with the margin."""
    return math.ceil(size / sensor.scale) + 2 * sensor.margin


def _seen(
    sensor: CoarseSensor, axis: int, away: float, size: int
) -> Float32[np.ndarray, "cell pixel"]:
    """Weights of the cells over the pixels of the ground; each cell's sum to 1."""
    count = cell_count(sensor, size)
    start = np.arange(count) + sensor.phase[axis] + away
    pixel = (np.arange(count * sensor.scale) + 0.5) / sensor.scale
    # A point spread far below a pixel stands for none: the box is then exact to it.
    deviation = max(sensor.fwhm[axis] / _FWHM, 0.1 / sensor.scale)
    near = ndtr((pixel - start[:, None]) / deviation)
    far = ndtr((pixel - start[:, None] - 1) / deviation)
    weight = np.maximum(near - far, 1e-30)
    # At the edge of the ground a cell may see less than all of its footprint.
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def _laid(
    sensor: CoarseSensor, axis: int, size: int
) -> Float32[np.ndarray, "pixel cell"]:
    """Weights of the cells in each pixel of the scene; each pixel's sum to 1."""
    count = cell_count(sensor, size)
    pixel = np.arange(size)
    if sensor.resampling == "blocks":
        return np.eye(count, dtype=np.float32)[pixel // sensor.scale + sensor.margin]
    fine = (np.arange(math.ceil(size / sensor.scale) * sensor.scale) + 0.5) / (
        sensor.scale
    )
    place = fine + sensor.margin - sensor.phase[axis]
    distance = np.abs(place[:, None] - 0.5 - np.arange(count))
    if sensor.resampling == "regridded":
        nearest = np.eye(count)[np.clip(np.floor(place).astype(int), 0, count - 1)]
        nested = nearest.reshape(-1, sensor.scale, count).mean(axis=1)
        weight = nested[pixel // sensor.scale]
    elif sensor.resampling == "bilinear":
        weight = np.maximum(1 - distance, 0)[:size]
    else:
        weight = _cubic(distance)[:size]
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """The cubic kernel of Keys (1981) with a = -1/2, as bicubic resampling uses it."""
    d = distance
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


# Coarse GSD / fine GSD and how often: mostly those of MODIS and Sentinel-3 with Landsat.
_SCALES = {4: 2, 5: 2, 6: 2, 7: 2, 8: 6, 9: 4, 10: 7, 11: 4, 12: 5, 13: 4, 14: 4, 15: 6}
_SCALES |= {16: 10, 17: 2, 18: 2, 20: 3, 22: 1, 24: 1, 25: 1, 28: 1, 30: 2}
