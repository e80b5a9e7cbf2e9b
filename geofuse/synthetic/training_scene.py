"""Scenes that learned methods are pretrained on: every kind a user may bring.

    ground at each date     a real texture, parcels, both, or a landscape   training_ground
      changed between         classes, parcels, lines, floods, new patterns  ground_change
      in any unit             reflectance, an index, kelvin; any line of it
    fine = ground, a little shifted, with noise
    coarse = what a coarse sensor of any kind makes of it                    coarse_sensor
    composites, clouds and swath edges in some of them

Nothing here is meant to look like one place. The more kinds a network has seen, the less
a user's scene is new to it.
"""

import datetime
import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from jaxtyping import Bool, Float32
from odc.geo.geobox import GeoBox

from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.synthetic.case import PREDICTION_DATE, UTM_CRS, check_whole
from geofuse.synthetic.coarse_sensor import (
    CoarseSensor,
    cell_count,
    coarse_of,
    draw_coarse_sensor,
)
from geofuse.synthetic.ground_change import changed_ground, draw_change
from geofuse.synthetic.measured import image_of
from geofuse.synthetic.noise import clouds_of, stream
from geofuse.synthetic.parcels import smooth_field
from geofuse.synthetic.texture import draw_texture
from geofuse.synthetic.training_ground import (
    draw_mixed_ground,
    draw_parcel_ground,
    index_of,
    landscape_states,
    log_uniform,
    spread_of,
    temperatures_of,
)

_TRANSFORM = Affine(30, 0, 499980, 0, -30, 5100000)


class _Plan(NamedTuple):
    """What kind of scene it is."""

    ground: str
    quantity: str
    bands: int
    lags: tuple[int, ...]  # days from the prediction date to each base date
    composite: float  # how far the moments differ, in lags; 0 for none
    cloudy: bool


def draw_training_case(
    seed: int,
    textures: Sequence[Float32[np.ndarray, "_ _ _"]],
    *,
    size: int = 160,
    pairs: int = 1,
    scale: int | None = None,
    bands: int | None = None,
) -> FusionCase:
    """A simulated case of a kind drawn from the seed, for pretraining.

    The scale, the bands, the units, the coarse sensor, clouds and the change are all
    drawn. Only base images and coarse images have gaps; the reference has none. It has
    the noise of the fine sensor. `reference.attrs["drawn"]` is a dict, as text, of what
    was drawn.

    Args:
        seed: Any whole number from 0 on; the same seed gives the same pixels.
        textures: Images of real ground (reflectance, about 10 m, NaN where invalid),
            each with at least one band; there may be none.
        size: Height and width in fine pixels, 32 to 1024.
        pairs: Number of pairs, 1 or 2. Two lie on both sides of the prediction date.
        scale: Coarse GSD / fine GSD, 2 to 64; None to draw it.
        bands: Number of bands, 1 to 6; None to draw it. Several are of reflectance.

    Raises:
        ParameterError: A value is out of its range or not of its kind.

    >>> case = draw_training_case(3, [], size=48)
    >>> case.reference.sizes["y"], len(case.inputs.pairs)
    (48, 1)
    """
    check_whole("seed", seed, 0, None)
    check_whole("size", size, 32, 1024)
    check_whole("pairs", pairs, 1, 2)
    plan = _draw_plan(stream(seed, "plan"), pairs, bool(len(textures)))
    if bands is not None:
        check_whole("bands", bands, 1, 6)
        plan = plan._replace(
            bands=bands, quantity=plan.quantity if bands == 1 else "reflectance"
        )
    sensor = draw_coarse_sensor(stream(seed, "sensor"), plan.bands, size)
    if scale is not None:
        check_whole("scale", scale, 2, 64)
        sensor = sensor._replace(scale=scale)
    shape = (cell_count(sensor, size) * sensor.scale,) * 2
    states, drawn = _states(seed, plan, textures, shape)
    found = states[0].shape[0]  # a texture may have fewer than were wanted
    spread = spread_of(states[0])
    fine, coarse, said = _measured(seed, plan, sensor, states, spread, size)
    fine, coarse = _in_units(stream(seed, "units"), plan, [fine, coarse], spread)
    if plan.cloudy:
        _hide_fine(stream(seed, "fine gaps"), seed, fine, reference=1)

    names = [plan.quantity] if found == 1 else [f"band{i + 1}" for i in range(found)]
    grid = GeoBox((size, size), _TRANSFORM, UTM_CRS)
    lags = [plan.lags[0], 0, *plan.lags[1:]]
    dates = [PREDICTION_DATE + datetime.timedelta(days=lag) for lag in lags]
    made = [
        (image_of(f, names, date, grid), image_of(c, names, date, grid))
        for f, c, date in zip(fine, coarse, dates, strict=True)
    ]
    base = [Pair(*made[i]) for i in range(len(made)) if i != 1]
    facts: dict[str, Any] = {**plan._asdict(), **drawn, **said, "bands": found}
    facts |= {name: getattr(sensor, name) for name in ("scale", "clean", "resampling")}
    facts |= {"noise": round(sensor.noise, 4), "fwhm": round(sensor.fwhm[0], 3)}
    facts["shift"] = round(math.hypot(*sensor.shift), 3)
    reference = made[1][0].assign_attrs(drawn=repr(facts))
    return FusionCase(FusionInputs(base, made[1][1], scale=sensor.scale), reference)


def _draw_plan(rng: np.random.Generator, pairs: int, textured: bool) -> _Plan:
    """What kind of scene it will be; real grounds only where there are textures."""
    grounds = ("real", "mixed", "parcels", "landscape")
    ground = rng.choice(grounds, p=(0.45, 0.2, 0.2, 0.15) if textured else _UNTEXTURED)
    quantity = rng.choice(("reflectance", "index", "temperature"), p=(0.7, 0.2, 0.1))
    bands = int(rng.choice((1, 2, 3, 4, 5, 6), p=(0.2, 0.1, 0.2, 0.25, 0.1, 0.15)))
    before, after = (int(log_uniform(rng, 4, 100)) for _ in range(2))
    sign = -1 if pairs == 2 or rng.uniform() < 0.5 else 1
    lags = (sign * before, after)[:pairs]
    composite = log_uniform(rng, 0.05, 0.6) if rng.uniform() < 0.2 else 0.0
    return _Plan(
        ground=str(ground),
        quantity=str(quantity),
        bands=bands if quantity == "reflectance" else 1,
        lags=lags,
        composite=composite,
        cloudy=bool(rng.uniform() < 0.2),
    )


_UNTEXTURED = (0.0, 0.0, 0.6, 0.4)


def _states(
    seed: int, plan: _Plan, textures: Sequence[np.ndarray], shape: tuple[int, int]
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """The ground at the base date, the prediction date and the last date, in order."""
    rng = stream(seed, "ground")
    # An index is made of two bands; a temperature of some that heat differently.
    bands = plan.bands if plan.quantity == "reflectance" else 2
    count = 1 + len(plan.lags)
    if plan.ground == "landscape":
        day = int(rng.integers(110, 256))
        days = [day + plan.lags[0], day, *(day + lag for lag in plan.lags[1:])]
        states = landscape_states(rng, shape, bands, days)
    else:
        if plan.ground == "real":
            state = draw_texture(rng, textures, shape, bands)
        elif plan.ground == "mixed":
            state = draw_mixed_ground(rng, textures, shape, bands)
        else:
            state = draw_parcel_ground(rng, shape, bands)
        states = [state] * count
    if plan.quantity == "index" and states[0].shape[0] > 1:
        states = [index_of(state) for state in states]
    elif plan.quantity == "temperature":
        states = temperatures_of(rng, states)

    rng = stream(seed, "change")
    change = draw_change(rng)
    if plan.ground == "landscape" and rng.uniform() < 0.5:  # phenology alone
        change = change._replace(amplitude=0.05 * change.amplitude, flood=0.0)
    drawn = {"change": change.kinds, "amplitude": round(change.amplitude, 3)}
    drawn["flood"] = round(change.flood, 3)
    first, second, *rest = states
    changed = changed_ground(rng, second, change, textures)
    if not rest:
        return [first, changed], drawn
    # What went on goes on in part, and something else comes; or all returns.
    later = draw_change(rng)
    third = changed_ground(rng, changed, later, textures) - changed
    returns = rng.uniform() < 0.2
    onward = 0.0 if returns else rng.uniform()
    pace = min(max(abs(plan.lags[1] / plan.lags[0]), 0.25), 2.0)
    went = np.float32(0.0 if returns else 1.0 + onward * pace) * (changed - second)
    third = rest[0] + went + np.float32(1 - onward) * third
    drawn |= {"later": later.kinds, "later amplitude": round(later.amplitude, 3)}
    drawn |= {"onward": round(onward, 3), "returns": bool(returns)}
    return [first, changed, third], drawn


def _measured(
    seed: int,
    plan: _Plan,
    sensor: CoarseSensor,
    states: list[np.ndarray],
    spread: np.ndarray,
    size: int,
) -> tuple[list[np.ndarray], list[np.ndarray], dict[str, Any]]:
    """Fine and coarse images of all dates, on the fine grid."""
    rng = stream(seed, "measure")
    sensor = sensor._replace(gain=sensor.gain[: spread.size])
    sensor = sensor._replace(offset=sensor.offset[: spread.size])
    jitter = rng.uniform(0, 0.5) if rng.uniform() < 0.6 else 0.0
    noise = 0.0 if rng.uniform() < 0.2 else log_uniform(rng, 0.002, 0.1)
    composite = 0.0 if sensor.clean else plan.composite
    sudden = bool(rng.uniform() < 0.4)
    fine_too = composite > 0 and rng.uniform() < 0.5
    hidden = _hidden_cells(rng, seed, plan, sensor, size, len(states))
    inside = slice(sensor.margin * sensor.scale, sensor.margin * sensor.scale + size)
    fine, coarse = [], []
    for date in range(len(states)):
        seen = states[date]
        if fine_too:
            spacing = rng.choice((20.0, 80.0, 1000.0))
            moment = composite * _moments(rng, seen.shape[1:], float(spacing))
            seen = _at_moment(states, date + moment, sudden)
        if jitter:
            turn = rng.uniform(0, 2 * math.pi)
            reach = jitter / 2  # two dates differ by up to the jitter
            seen = _shifted(seen, (reach * math.sin(turn), reach * math.cos(turn)))
        if noise:
            amount = np.float32(noise) * spread[:, None, None]
            seen = seen + amount * rng.standard_normal(seen.shape, dtype=np.float32)
        fine.append(seen[:, inside, inside])

        of_day = coarse_of(rng, sensor, size)
        if sensor.clean:  # the coarse image is made of the fine one, as in simulations
            cells = of_day.cells(seen)
        elif composite:
            stack = [of_day.cells(state) for state in states]
            moment = composite * _moments(
                rng, stack[0].shape[1:], float(rng.choice((0, 2, 5)))
            )
            cells = _at_moment(stack, date + moment, sudden)
        else:
            cells = of_day.cells(states[date])
        cells = of_day.recorded(rng, cells, spread)
        coarse.append(of_day.on_fine_grid(cells, hidden[date]))
    said = {"jitter": round(jitter, 3), "fine noise": round(noise, 4)}
    said |= {"composite": round(composite, 3), "sudden": sudden, "fine too": fine_too}
    return fine, coarse, said


def _moments(
    rng: np.random.Generator, shape: tuple[int, ...], spacing: float
) -> np.ndarray:
    """Moments of pixels, -1 to 1: each its own, or blobs, whose edges are sharp."""
    if spacing < 1:
        return rng.uniform(-1, 1, shape).astype(np.float32)
    field = smooth_field(rng, (shape[0], shape[1]), float(spacing), 2)
    levels = rng.uniform(-1, 1, 5).astype(np.float32)
    return levels[np.clip(np.round(field + 2), 0, 4).astype(np.int32)]


def _at_moment(
    states: list[np.ndarray], moment: np.ndarray, sudden: bool
) -> np.ndarray:
    """Each pixel of another moment; 0 is the first state, 1 the second, 2 the third."""
    first = np.clip(np.floor(moment), 0, len(states) - 2).astype(np.int32)
    part = np.clip(moment - first, -0.3, 1.3).astype(np.float32)
    if sudden:
        part = np.round(np.clip(part, 0, 1))
    stack = np.stack(states)
    number = np.broadcast_to(first, stack.shape[1:])[None]
    before = np.take_along_axis(stack, number, axis=0)[0]
    after = np.take_along_axis(stack, number + 1, axis=0)[0]
    return before + part * (after - before)


def _shifted(image: np.ndarray, away: tuple[float, float]) -> np.ndarray:
    """The image moved by less than a pixel, cubic; edge pixels are repeated."""
    for axis, part in enumerate(away, start=1):
        t = abs(part)
        step = 1 if part > 0 else -1
        weights = (
            ((2 - t) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((4 - 3 * t) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        )
        count = image.shape[axis]
        place = np.arange(count)
        parts = [
            np.float32(weight)
            * image.take(np.clip(place + step * k, 0, count - 1), axis)
            for k, weight in zip((-1, 0, 1, 2), weights, strict=True)
        ]
        image = reduce(add, parts)
    return image


def _in_units(
    rng: np.random.Generator,
    plan: _Plan,
    images: list[list[np.ndarray]],
    spread: np.ndarray,
) -> list[list[np.ndarray]]:
    """All images in other units: any line of each band, now and then a falling one."""
    if plan.quantity == "temperature" or rng.uniform() < 0.4:
        return images
    count = spread.size
    size = log_uniform(rng, 0.01, 1e4)
    signs = np.where(rng.uniform(0, 1, count) < 0.1, -1, 1)
    gain = size * rng.lognormal(0, 0.3, count) * signs
    offset = rng.normal(0, 3, count) * spread * np.abs(gain)
    rise, level = (v.astype(np.float32)[:, None, None] for v in (gain, offset))
    return [[rise * image + level for image in kind] for kind in images]


def _hidden_cells(
    rng: np.random.Generator,
    seed: int,
    plan: _Plan,
    sensor: CoarseSensor,
    size: int,
    dates: int,
) -> list[Bool[np.ndarray, "y x"]]:
    """Which cells are lost at each date: clouds, and the edge of a swath."""
    count = cell_count(sensor, size)
    hidden = []
    for date in range(dates):
        lost = np.zeros((count, count), bool)
        if plan.cloudy and rng.uniform() < 0.6:
            share = log_uniform(rng, 0.01, 0.4)
            lost |= clouds_of(seed, f"coarse clouds {date}", lost.shape, share)
            if rng.uniform() < 0.15:
                lost |= _beyond_swath(rng, count)
        hidden.append(lost)
    return hidden


def _hide_fine(
    rng: np.random.Generator, seed: int, fine: list[np.ndarray], *, reference: int
) -> None:
    """Put clouds and swath edges into the base images; the reference stays whole."""
    for date, image in enumerate(fine):
        if date == reference or rng.uniform() > 0.7:
            continue
        share = log_uniform(rng, 0.01, 0.4)
        lost = clouds_of(seed, f"fine clouds {date}", image.shape[1:], share)
        if rng.uniform() < 0.2:
            lost |= _beyond_swath(rng, image.shape[1])
        fine[date] = np.where(lost, np.float32(np.nan), image)


def _beyond_swath(rng: np.random.Generator, size: int) -> Bool[np.ndarray, "y x"]:
    """One side of a slanted line, up to a third of the image."""
    y, x = np.indices((size, size), np.float32) / size
    turn = rng.uniform(0, 2 * np.pi)
    across = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    return across > np.quantile(across, rng.uniform(0.67, 0.98))
