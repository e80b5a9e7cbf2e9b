"""Object-level Fit-FC and its segments: what must hold of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.errors import MissingScaleError, ParameterError
from geofuse.spatiotemporal.object_fitfc import ObjectFitFC
from geofuse.spatiotemporal.segments import cell_side, reach, segment
from geofuse.synthetic import simulate_case
from tests.oracles import fitfc as oracle
from tests.spatiotemporal.test_fitfc import SCALE, inputs_of, predicted, scene

SMALL = ObjectFitFC(segment=2, steps=2, coarse_radius=1)


def seeds_of(segments):
    """Row and column of the seed that each pixel joined."""
    label, cell = np.asarray(segments.label), segments.cell
    rows, columns = np.indices(label.shape) // cell
    return rows + label // 3 - 1, columns + label % 3 - 1


def labels_as_loops(image, cell, steps, compactness):
    """The segmentation as loops: join the nearest seed, move the seeds, repeat."""
    bands, height, width = image.shape
    rows, columns = height // cell, width // cell
    joined = {(y, x): (y // cell, x // cell) for y, x in np.ndindex(height, width)}
    for _ in range(steps):
        seeds = {}
        for seed in np.ndindex(rows, columns):
            mine = [place for place, other in joined.items() if other == seed]
            mine = [p for p in mine if np.isfinite(image[:, p[0], p[1]]).any()]
            if mine:
                values = np.array([image[:, y, x] for y, x in mine], float)
                some = np.isfinite(values).any(axis=0)
                color = np.full(bands, np.nan)
                color[some] = np.nanmean(values[:, some], axis=0)
                seeds[seed] = color, np.mean(mine, axis=0)
        for (y, x), old in joined.items():
            options = []
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    seed = (y // cell + dy, x // cell + dx)
                    if seed in seeds:
                        color, place = seeds[seed]
                        off = np.append(
                            image[:, y, x] - color,
                            (place - (y, x)) * compactness * np.sqrt(bands) / cell,
                        )
                        options.append((np.nansum(off**2), seed))
            joined[y, x] = min(options)[1] if options else old
    return joined


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_segments_are_those_of_loops(holes):
    rng = np.random.default_rng(1)
    image = rng.normal(size=(2, 16, 20)).astype(np.float32)
    image[rng.random(image.shape) < holes] = np.nan
    found = segment(jnp.asarray(image), cell=4, steps=3, compactness=0.7)
    expected = labels_as_loops(image, 4, 3, 0.7)
    rows, columns = seeds_of(found)
    wrong = [
        place
        for place, seed in expected.items()
        if np.isfinite(image[:, place[0], place[1]]).any()
        and (rows[place], columns[place]) != seed
    ]
    assert not wrong


def test_segments_follow_an_edge():
    image = np.zeros((1, 24, 24), np.float32)
    image[:, :, 10:] = 3.0
    found = segment(jnp.asarray(image), cell=4, steps=3, compactness=0.2)
    means = np.asarray(found.mean(jnp.asarray(image)))
    np.testing.assert_array_equal(means, image)


def test_a_mean_over_a_segment_is_that_of_its_pixels():
    rng = np.random.default_rng(2)
    image = rng.normal(size=(3, 16, 16)).astype(np.float32)
    found = segment(jnp.asarray(image), cell=4, steps=2, compactness=0.5)
    means = np.asarray(found.mean(jnp.asarray(image)))
    rows, columns = seeds_of(found)
    for seed in {*zip(rows.ravel(), columns.ravel(), strict=True)}:
        mine = (rows == seed[0]) & (columns == seed[1])
        np.testing.assert_allclose(
            means[:, mine].T, np.tile(image[:, mine].mean(axis=1), (mine.sum(), 1)),
            atol=1e-6,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "target", "side"),
    [(16, 8, 8), (10, 8, 10), (30, 8, 10), (17, 8, 17), (4, 2, 2), (50, 8, 10)],
)
def test_cells_divide_the_coarse_pixel(scale, target, side):
    assert cell_side(scale, target) == side


def test_reach_is_all_that_a_segment_looks_at():
    rng = np.random.default_rng(3)
    image = rng.normal(size=(1, 44, 44)).astype(np.float32)
    cell, steps = 2, 2
    whole = segment(jnp.asarray(image), cell=cell, steps=steps, compactness=0.5)
    other = image.copy()
    center = np.s_[:, 20:22, 20:22]
    far = reach(steps) * cell
    other[:, : 20 - far] = 9.0
    other[:, 22 + far :] = -9.0
    changed = segment(jnp.asarray(other), cell=cell, steps=steps, compactness=0.5)
    np.testing.assert_array_equal(
        whole.mean(jnp.asarray(image))[center], changed.mean(jnp.asarray(other))[center]
    )


@pytest.mark.parametrize("tile", [8, 20])
def test_tile_size_changes_no_bit(tile):
    images = scene(bands=3, size=40, holes=0.1)
    whole, tiled = (predicted(SMALL, *images, tile=side) for side in (None, tile))
    for name, values in whole.items():
        np.testing.assert_array_equal(values, tiled[name], name)


def test_each_segment_gets_the_mean_line_of_its_pixels():
    fine, base, coarse = scene(bands=1)
    found = predicted(SMALL, fine, base, coarse)["reflectance"][0]
    spread = np.float32(fine.astype(float).std())
    level = np.float32(fine.astype(float).mean())
    cut = segment(
        jnp.asarray((fine - level) / spread), cell=2, steps=2, compactness=0.5
    )
    rows, columns = seeds_of(cut)
    base, coarse = (
        oracle.coarsened(image[0].astype(float), SCALE) for image in (base, coarse)
    )
    line, residual = oracle.lines(base, coarse, 1)
    smooth = oracle.upsampled(residual, SCALE)
    slope, intercept = (np.kron(part, np.ones((SCALE, SCALE))) for part in line)
    for seed in {*zip(rows.ravel(), columns.ravel(), strict=True)}:
        mine = (rows == seed[0]) & (columns == seed[1])
        values = fine[0][mine].astype(float)
        own = (slope[mine] * values.mean() + intercept[mine]).mean() + smooth[
            mine
        ].mean()
        expected = own + slope[mine].mean() * (values - values.mean())
        np.testing.assert_allclose(found[mine], expected, rtol=2e-4, atol=2e-5)


def test_temperatures_in_kelvin_fuse_like_reflectances():
    images = tuple(np.round(image * 4096) / 4096 for image in scene(bands=1))
    plain = predicted(SMALL, *(np.float32(image) for image in images))
    kelvin = predicted(SMALL, *(np.float32(image * 64 + 288) for image in images))
    off = np.abs(kelvin["reflectance"] - (plain["reflectance"] * 64 + 288))
    # A tie between two seeds may fall the other way; the rest is float32 at 300 K.
    assert np.quantile(off, 0.95) < 2e-3


def test_a_constant_scene_gets_the_coarse_change():
    fine = np.full((2, 24, 24), 300.0, np.float32)
    found = predicted(SMALL, fine, fine, fine + 2)
    np.testing.assert_allclose(found["reflectance"], 302.0, rtol=1e-6)
    np.testing.assert_allclose(found["aleatoric"], 0.0, atol=1e-6)


def test_a_scene_without_a_valid_pixel_is_nan():
    images = (np.full((2, 24, 24), np.nan, np.float32),) * 3
    found = predicted(SMALL, *images)
    assert np.isnan(found["reflectance"]).all()
    assert (found["similar"] == 0).all()


def test_holes_stay_holes_and_change_nothing_far_away():
    fine, base, coarse = scene(bands=2, size=60)
    whole = predicted(SMALL, fine, base, coarse)["reflectance"]
    assert np.isfinite(whole).all()
    fine[:, 5:9, 5:9] = np.nan
    found = predicted(SMALL, fine, base, coarse)["reflectance"]
    assert np.isnan(found[:, 5:9, 5:9]).all()
    assert np.isfinite(found[:, 12:]).all()
    assert np.isfinite(found[:, :, 12:]).all()


def test_it_beats_the_coarse_change_with_two_pairs():
    case = simulate_case(96, pairs=2, seed=0, abrupt=0.0)
    product = ObjectFitFC().predict(case.inputs)
    off = product.reflectance - case.reference
    change = (
        case.inputs.pairs[0].fine + case.inputs.coarse - case.inputs.pairs[0].coarse
    )
    trivial = change.drop_vars("time") - case.reference.drop_vars("time")
    assert float((off**2).mean()) < 0.5 * float((trivial**2).mean())


def test_an_image_that_knows_no_scale_is_refused():
    inputs = inputs_of(*scene(), scale=None)
    with pytest.raises(MissingScaleError, match="expected the scale"):
        SMALL.predict(inputs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segment": 1}, "expected segments of 2 to 64"),
        ({"steps": 0}, "expected 1 to 10 steps"),
        ({"compactness": 0.0}, "expected a compactness above 0"),
        ({"compactness": float("nan")}, "expected a compactness above 0"),
        ({"coarse_radius": 16}, "expected a coarse_radius of 1 to 15"),
    ],
)
def test_a_field_out_of_range_is_refused(fields, message):
    with pytest.raises(ParameterError, match=message):
        ObjectFitFC(**fields)
