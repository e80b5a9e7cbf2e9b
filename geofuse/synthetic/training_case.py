"""Simulated cases to learn from: any sensor, any variable, any kind of change.

`simulate_case` looks like one landscape; what is learned there stays there. Here all is
drawn anew for each seed: the ground (real textures that are handed in, parcels, or both),
its unit, the change, the point spread, place, gain and noise of the coarse sensor, gaps. A
method that learns from these cases shall know none of them again in a user's scene.
"""

import datetime
from collections.abc import Sequence

import numpy as np
from affine import Affine
from jaxtyping import Float
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.synthetic.case import (
    PREDICTION_DATE,
    UTM_CRS,
    UTM_TRANSFORM,
    check_whole,
)
from geofuse.synthetic.fields import (
    classes_of,
    parcels,
    smooth_field,
    standardized,
)
from geofuse.synthetic.ground_change import changed
from geofuse.synthetic.landscape import BANDS
from geofuse.synthetic.measured import image_of

#: Scales that are drawn, and how often.
SCALES = {4: 1, 5: 1, 6: 2, 8: 4, 10: 5, 12: 4, 16: 5, 20: 2, 24: 1, 30: 1}

#: Coarse pixels of ground around the scene that the coarse sensor sees.
MARGIN = 4

Ground = Float[np.ndarray, "band y x"]


def draw_training_case(
    seed: int,
    textures: Sequence[Float[np.ndarray, "band y x"]],
    *,
    size: int = 160,
    pairs: int = 1,
    scale: int | None = None,
    bands: int | None = None,
) -> FusionCase:
    """A case of which everything is drawn from the seed.

    Args:
        seed: Any whole number from 0 on.
        textures: Real fine images to take ground from, six bands or more; may be empty.
            Pixels that are NaN are filled by the nearest valid one.
        size: Height and width in fine pixels, 16 to 4096.
        pairs: 1, or 2: then one before and one after the prediction date.
        scale: Coarse GSD / fine GSD, 2 to 64; None to draw it.
        bands: Number of bands, 1 to 6; None to draw it.

    Returns:
        Inputs, and the fine image of the prediction date as the fine sensor would have
        measured it. The attribute `drawn` of the reference says what was drawn.

    Raises:
        ParameterError: A value is out of its range.

    >>> case = draw_training_case(1, [], size=48, scale=8, bands=2)
    >>> dict(case.reference.sizes)
    {'band': 2, 'y': 48, 'x': 48}
    """
    check_whole("seed", seed, 0, None)
    check_whole("size", size, 16, 4096)
    check_whole("pairs", pairs, 1, 2)
    generator = np.random.default_rng(seed)
    drawn_scale = int(generator.choice(list(SCALES), p=_shares(SCALES)))
    drawn_bands = int(generator.integers(1, 7))
    scale = drawn_scale if scale is None else scale
    bands = drawn_bands if bands is None else bands
    check_whole("scale", scale, 2, 64)
    check_whole("bands", bands, 1, 6)

    side = (-(-size // scale) + 2 * MARGIN) * scale
    index = bands == 1 and generator.random() < 0.5
    ground, kind = _ground(generator, textures, side, 2 if index else bands, scale)
    after, what = changed(generator, ground, scale)
    moments = [ground, after]
    if pairs == 2:
        share = generator.uniform(0.3, 1.2)
        later, _ = changed(generator, after, scale)
        moments.append(after + share * (after - ground) + 0.5 * (later - after))
    if index:
        moments, kind = _as_index(generator, moments), f"index of {kind}"
    sensor = _Sensor(generator, bands, scale, size)
    level, unit = _unit(generator, bands)
    first = moments[0].mean(axis=(1, 2), keepdims=True)
    spread = np.maximum(moments[0].std(axis=(1, 2), keepdims=True), 1e-6)
    units = [level + unit * (moment - first) / spread for moment in moments]

    grid = GeoBox((size, size), Affine(*UTM_TRANSFORM[:6]), UTM_CRS)
    names = BANDS[:bands]
    fine = [sensor.fine(moment, unit) for moment in units]
    coarse = [
        sensor.coarse(sensor.composite(units, number), unit)
        for number in range(len(units))
    ]
    truth = fine[1].copy()
    if generator.random() < 0.2:
        sensor.add_gaps(fine, coarse)
    dates = [
        PREDICTION_DATE + datetime.timedelta(days=lag)
        for lag in (-int(generator.integers(4, 90)), 0, int(generator.integers(4, 90)))
    ]
    images = [
        tuple(image_of(v.astype(np.float32), names, date, grid) for v in (one, other))
        for one, other, date in zip(fine, coarse, dates, strict=False)
    ]
    reference = image_of(truth.astype(np.float32), names, dates[1], grid)
    reference.attrs["drawn"] = f"{kind}; {what}; {sensor}"
    given = tuple(Pair(*images[k]) for k in range(len(images)) if k != 1)
    return FusionCase(FusionInputs(given, images[1][1], scale=scale), reference)


def _shares(weights: dict[int, int]) -> np.ndarray:
    values = np.array(list(weights.values()), float)
    return values / values.sum()


def _ground(
    generator: np.random.Generator,
    textures: Sequence[np.ndarray],
    side: int,
    bands: int,
    scale: int,
) -> tuple[Ground, str]:
    """Ground of the first date, each band with mean 0 and spread 1, and its kind."""
    draw = generator.random()
    if textures and draw < 0.75:
        ground = _texture(generator, textures, side, bands)
        if draw < 0.5:
            return ground, "texture"
        drawn = _drawn(generator, side, bands, scale)
        field = smooth_field(generator, side, generator.uniform(2, 12) * scale)
        mask = field > generator.uniform(-0.8, 0.8)
        return standardized(np.where(mask, ground, drawn)), "both"
    return _drawn(generator, side, bands, scale), "parcels"


def _texture(
    generator: np.random.Generator,
    textures: Sequence[np.ndarray],
    side: int,
    bands: int,
) -> Ground:
    """A piece of a real image, turned, coarsened, its bands in any order."""
    image = textures[int(generator.integers(len(textures)))]
    image = image[generator.permutation(len(image))[:bands]]
    missing = ~np.isfinite(image).all(axis=0)
    if missing.any():
        nearest = ndimage.distance_transform_edt(
            missing, return_distances=False, return_indices=True
        )
        image = image[:, *nearest]
    image = np.rot90(image, int(generator.integers(4)), axes=(1, 2))
    if generator.random() < 0.5:
        image = image[:, ::-1]
    times = int(generator.choice([1, 1, 1, 2, 2, 3]))
    rows, columns = (n // times * times for n in image.shape[1:])
    image = image[:, :rows, :columns].reshape(
        len(image), rows // times, times, columns // times, times
    )
    image = image.mean(axis=(2, 4))
    # Mirrored where the piece is smaller than the scene.
    start = [generator.integers(0, n) for n in image.shape[1:]]
    rows, columns = (
        _mirrored(np.arange(side) + s, n)
        for s, n in zip(start, image.shape[1:], strict=True)
    )
    piece = image[:, rows[:, None], columns[None, :]]
    low, high = np.quantile(piece, [0.001, 0.999], axis=(1, 2))
    return standardized(
        np.clip(piece, low[:, None, None], high[:, None, None]).astype(np.float64)
    )


def _mirrored(places: np.ndarray, length: int) -> np.ndarray:
    turn = places % (2 * length)
    return np.where(turn < length, turn, 2 * length - 1 - turn)


def _drawn(generator: np.random.Generator, side: int, bands: int, scale: int) -> Ground:
    """Parcels of some classes, with texture inside, in one or two sizes."""
    width = scale * np.exp(generator.uniform(np.log(0.3), np.log(3.0)))
    label = parcels(generator, side, max(width, 3.0))
    count = int(generator.integers(3, 14))
    of_parcel = generator.integers(0, count, label.max() + 1)
    spectra = generator.standard_normal((count, bands)) + generator.standard_normal(
        (count, 1)
    )
    own = generator.uniform(0.0, 0.4) * generator.standard_normal(
        (label.max() + 1, bands)
    )
    ground = (spectra[of_parcel] + own)[label].transpose(2, 0, 1)
    for _ in range(2):
        wave = np.exp(generator.uniform(np.log(1.5), np.log(4.0 * scale)))
        field = smooth_field(generator, side, wave)
        amount = generator.uniform(0.0, 0.5, (bands, count))[:, of_parcel[label]]
        ground = ground + amount * field
    if generator.random() < 0.5:
        # Nature has no fields: classes by a smooth field instead of parcels.
        label = classes_of(generator, ground, int(generator.integers(2, 8)))
        shift = generator.standard_normal((bands, label.max() + 1))
        ground = ground + generator.uniform(0, 1) * shift[:, label]
    return standardized(ndimage.gaussian_filter(ground, (0, 0.5, 0.5)))


def _as_index(generator: np.random.Generator, moments: list[Ground]) -> list[Ground]:
    """A normalized difference of two bands, at every moment."""
    least = min(moment.min() for moment in moments)
    found = []
    for moment in moments:
        one, other = moment - least + generator.uniform(0.3, 2.0)
        found.append(((one - other) / (one + other))[None])
    return found


def _unit(generator: np.random.Generator, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Level and spread of each band in the unit of the images."""
    if generator.random() < 0.15:  # kelvin
        return np.full((bands, 1, 1), 295.0), generator.uniform(1, 8, (bands, 1, 1))
    spread = generator.uniform(0.01, 0.1, (bands, 1, 1))
    return generator.uniform(0.03, 0.4, (bands, 1, 1)), spread


class _Sensor:
    """What the two sensors do to the ground; one draw for all dates."""

    def __init__(
        self, generator: np.random.Generator, bands: int, scale: int, size: int
    ) -> None:
        self._generator, self._scale, self._size = generator, scale, size
        self._bands = bands
        self.clean = generator.random() < 0.25
        self.smooth = not self.clean and generator.random() < 0.4
        self.psf = 0.0 if self.clean else generator.uniform(0.0, 1.6)
        self.shift = 0.0 if self.clean else generator.uniform(0.0, 0.5)
        if not self.clean and generator.random() < 0.1:
            self.shift = generator.uniform(0.5, 1.0)
        turn = generator.uniform(0, 2 * np.pi)
        self._away = self.shift * scale * np.array([np.sin(turn), np.cos(turn)])
        self.noise = (
            0.0 if self.clean else np.exp(generator.uniform(np.log(0.01), np.log(0.35)))
        )
        self.own = 0.0 if self.clean else generator.uniform(0.0, 0.12)
        self._gain = 1 + (0.0 if self.clean else 0.1) * generator.standard_normal(
            (bands, 1, 1)
        )
        self._offset = (0.0 if self.clean else 0.3) * generator.standard_normal(
            (bands, 1, 1)
        )
        self._fine_noise = np.exp(generator.uniform(np.log(0.005), np.log(0.08)))
        self._jitter = generator.uniform(0, 0.5) if generator.random() < 0.6 else 0.0
        self.mixed = not self.clean and generator.random() < 0.25

    def __str__(self) -> str:
        return (
            f"clean {self.clean} smooth {self.smooth} psf {self.psf:.1f} "
            f"shift {self.shift:.2f} noise {self.noise:.3f} composite {self.mixed}"
        )

    def composite(self, moments: list[Ground], number: int) -> Ground:
        """The ground that a coarse image shows: of one moment, or in part of another."""
        if not self.mixed:
            return moments[number]
        other = moments[number - 1 if number else 1]
        wave = self._generator.uniform(1.0, 6.0) * self._scale
        field = smooth_field(self._generator, other.shape[-1], wave)
        share = self._generator.uniform(0.0, 0.5)
        how = np.clip(share + self._generator.uniform(0, 0.4) * field, 0.0, 0.7)
        return moments[number] + how * (other - moments[number])

    def fine(self, ground: Ground, unit: np.ndarray) -> Ground:
        """The fine image, with noise, a little beside its place."""
        away = self._generator.uniform(-self._jitter, self._jitter, 2)
        if self._jitter:
            ground = ndimage.shift(ground, (0, *away), order=1, mode="nearest")
        edge = MARGIN * self._scale
        inner = ground[:, edge : edge + self._size, edge : edge + self._size]
        noise = self._generator.standard_normal(inner.shape)
        return inner + self._fine_noise * unit * noise

    def coarse(self, ground: Ground, unit: np.ndarray) -> Ground:
        """The coarse image on the fine grid."""
        scale, generator = self._scale, self._generator
        if self.psf:
            # Full width at half maximum in coarse pixels, over the mean of the pixel.
            sigma = self.psf * scale / 2.355
            ground = ndimage.gaussian_filter(ground, (0, sigma, sigma), truncate=2.5)
        if self.shift:
            away = self._away + self.own * scale * generator.standard_normal(2)
            away = np.clip(away, -1.5 * scale, 1.5 * scale)
            ground = ndimage.shift(ground, (0, *away), order=1, mode="nearest")
        bands, side, _ = ground.shape
        cells = side // scale
        means = ground.reshape(bands, cells, scale, cells, scale).mean(axis=(2, 4))
        level = means.mean(axis=(1, 2), keepdims=True)
        gain = self._gain + self.own * 0.5 * generator.standard_normal((bands, 1, 1))
        offset = self._offset + self.own * generator.standard_normal((bands, 1, 1))
        means = level + gain * (means - level) + offset * unit
        white = generator.standard_normal(means.shape)
        wave = generator.uniform(2, 10)
        cloudy = np.stack([smooth_field(generator, cells, wave) for _ in range(bands)])
        share = generator.uniform(0, 1)
        means = means + self.noise * unit * (share * white + (1 - share) * cloudy)
        edge = slice(MARGIN * scale, MARGIN * scale + self._size)
        if not self.smooth:
            return means.repeat(scale, 1).repeat(scale, 2)[:, edge, edge]
        place = (np.arange(side)[edge] + 0.5) / scale - 0.5
        grid = np.meshgrid(place, place, indexing="ij")
        order = int(generator.choice([1, 3]))
        return np.stack(
            [ndimage.map_coordinates(band, grid, order=order) for band in means]
        )

    def add_gaps(self, fine: list[Ground], coarse: list[Ground]) -> None:
        """Clouds and swath edges, as NaN, in the images that methods get."""
        for number in range(len(fine)):
            for images, step in ((fine, 1), (coarse, self._scale)):
                if self._generator.random() < 0.5 or (images is fine and number == 1):
                    continue
                field = smooth_field(self._generator, self._size, 6.0 * self._scale)[
                    ::step, ::step
                ]
                hidden = field > np.quantile(field, self._generator.uniform(0.6, 0.98))
                hidden = hidden.repeat(step, 0).repeat(step, 1)
                images[number][:, hidden[: self._size, : self._size]] = np.nan
