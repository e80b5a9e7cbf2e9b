"""Random fields for scenes to learn from: smooth fields, parcels, and classes of ground.

Drawn from one generator after the other, so that a seed gives a scene; sizes are free.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage, spatial


def smooth_field(
    generator: np.random.Generator, side: int, wavelength: float
) -> Float[np.ndarray, "y x"]:
    """A field of mean 0 and spread 1 that varies over about `wavelength` pixels."""
    step = max(wavelength / 4.0, 1.0)
    cells = max(int(np.ceil(side / step)) + 4, 4)
    coarse = ndimage.gaussian_filter(generator.standard_normal((cells, cells)), 1.0)
    place = np.arange(side) / step + generator.uniform(0, 2)
    grid = np.meshgrid(place, place, indexing="ij")
    field = ndimage.map_coordinates(coarse, grid, order=1, mode="mirror")
    return _standard(field)


def parcels(
    generator: np.random.Generator, side: int, width: float
) -> Int[np.ndarray, "y x"]:
    """Labels of parcels about `width` pixels across: Voronoi cells, stretched and bent."""
    count = int(np.clip((side / width) ** 2, 4, 4000))
    angle, stretch = generator.uniform(0, np.pi), generator.uniform(1.0, 3.0)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    ) * np.array([[stretch**0.5], [stretch**-0.5]])
    sites = generator.uniform(0, side, (count, 2)) @ turn.T
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 2, indexing="ij"), -1)
    bend = [smooth_field(generator, side, 4 * width) for _ in range(2)]
    place = grid + generator.uniform(0, 0.3) * width * np.stack(bend, -1)
    # Straight borders where the city block decides, oblique ones where the straight line.
    _, label = spatial.cKDTree(sites).query(
        place @ turn.T, p=generator.choice([1.0, 2.0, np.inf])
    )
    return label.astype(np.int64)


def classes_of(
    generator: np.random.Generator, ground: Float[np.ndarray, "band y x"], count: int
) -> Int[np.ndarray, "y x"]:
    """Classes by quantiles of one direction through the bands, or of two."""
    looks: np.ndarray = np.zeros(ground.shape[1:], np.int64)
    parts = 1 if count < 4 or generator.random() < 0.4 else 2
    each = max(round(count ** (1 / parts)), 2)
    for _ in range(parts):
        direction = generator.standard_normal(len(ground))
        along = np.tensordot(direction / np.linalg.norm(direction), ground, 1)
        along = ndimage.gaussian_filter(along, generator.uniform(0.0, 1.0))
        edges = np.quantile(along, np.sort(generator.uniform(0.05, 0.95, each - 1)))
        looks = looks * each + np.digitize(along, edges)
    return looks


def standardized(
    ground: Float[np.ndarray, "band y x"],
) -> Float[np.ndarray, "band y x"]:
    """Every band with mean 0 and spread 1."""
    return np.stack([_standard(band) for band in ground])


def _standard(field: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    spread = field.std()
    return (field - field.mean()) / (spread if spread > 0 else 1.0)
