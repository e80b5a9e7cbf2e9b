"""Pieces of real images as ground: turned, aggregated, mirrored to any size."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

_SMALLEST = 40  # px: a texture is not aggregated to less


def draw_texture(
    rng: np.random.Generator,
    textures: Sequence[Float32[np.ndarray, "_ _ _"]],
    shape: tuple[int, int],
    bands: int,
) -> Float32[np.ndarray, "band y x"]:
    """A piece of one of the textures, with no gap in it.

    It is the mean of 1, 4 or 9 pixels, turned and flipped at random; its bands come in
    random order. A texture too small is mirrored at its edges. Gaps are avoided where
    that is possible, else filled with the nearest valid pixel.

    Args:
        rng: Where all is drawn from.
        textures: One or more images; NaN where invalid.
        shape: Rows and columns wanted.
        bands: How many bands are wanted; fewer come where the texture has fewer.
    """
    texture = textures[int(rng.integers(len(textures)))]
    order = rng.permutation(texture.shape[0])[:bands]
    most = max(min(texture.shape[1:]) // _SMALLEST, 1)
    factor = int(rng.integers(1, min(most, 3) + 1))
    places = [
        [int(rng.integers(max(2 * n - 1, 1))) for n in texture.shape[1:]]
        for _ in range(4)
    ]
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    needed = shape if turns % 2 == 0 else shape[::-1]
    best = None
    for place in places:
        index = [
            _mirrored(start, factor * n, size)
            for start, n, size in zip(place, needed, texture.shape[1:], strict=True)
        ]
        piece = texture[np.ix_(order, *index)]
        invalid = int(np.isnan(piece).sum())
        if best is None or invalid < best[0]:
            best = invalid, piece
        if invalid == 0:
            break
    assert best is not None
    piece = _filled(best[1]) if best[0] else best[1]
    if factor > 1:
        rows, columns = needed
        blocks = piece.reshape(-1, rows, factor, columns, factor)
        piece = blocks.mean(axis=(2, 4), dtype=np.float32)
    piece = np.rot90(piece, turns, axes=(1, 2))
    return np.ascontiguousarray(piece[:, ::-1] if flip else piece)


def _mirrored(start: int, count: int, size: int) -> np.ndarray:
    """Pixel numbers from `start` on, turning back at each end of the image."""
    place = (start + np.arange(count)) % (2 * size)
    return np.where(place < size, place, 2 * size - 1 - place)


def _filled(piece: Float32[np.ndarray, "band y x"]) -> Float32[np.ndarray, "band y x"]:
    """The nearest valid pixel in place of NaN; 0 where there is none."""
    invalid = np.isnan(piece).any(axis=0)
    if invalid.all():
        return np.zeros_like(piece)
    nearest = ndimage.distance_transform_edt(
        invalid, return_distances=False, return_indices=True
    )
    return piece[:, nearest[0], nearest[1]]
