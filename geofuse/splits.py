"""Training, validation and test blocks that do not touch.

Neighboring pixels are alike, so that a score on pixels drawn at random is a score on the
training data. Here whole blocks of ground are held out, and pixels near the edge of a block
are not scored:

    ┌────────┬────────┐
    │ fold 0 │ fold 2 │     which fold a block is in depends on its place, the scene and
    ├────────┼────────┤     the seed alone, so that it can be told for any pixel without
    │ fold 1 │ fold 0 │     the others
    └────────┴────────┘
"""

import numpy as np
from jaxtyping import Bool, Int

#: Side of a block within which a classifier holds pixels out for itself, in pixels.
BLOCK = 32
#: Pixels so near the edge of a block are not scored.
GUARD = 2

_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def fold_of(
    rows: Int[np.ndarray, "*pixel"],
    columns: Int[np.ndarray, "*pixel"],
    *,
    scene: int = 0,
    folds: int = 5,
    block: int = BLOCK,
    seed: int = 0,
) -> Int[np.ndarray, "*pixel"]:
    """The fold of pixels, from 0: that of the block they lie in.

    Args:
        rows: Rows of pixels.
        columns: Their columns.
        scene: Number of the scene; each has its own folds.
        folds: Number of folds.
        block: Side of a block in pixels.
        seed: Of the folds.

    >>> fold_of(np.array([0, 31, 32]), np.array([0, 31, 0])).tolist()
    [3, 3, 2]
    """
    with np.errstate(over="ignore"):
        number = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        for part in (np.uint64(scene), rows // block, columns // block):
            number = _mixed(number + np.asarray(part).astype(np.uint64) + np.uint64(1))
    return (number % np.uint64(folds)).astype(np.int64)


def inside_block(
    rows: Int[np.ndarray, "*pixel"],
    columns: Int[np.ndarray, "*pixel"],
    *,
    block: int = BLOCK,
    guard: int = GUARD,
) -> Bool[np.ndarray, "*pixel"]:
    """Whether pixels are at least `guard` pixels from the edge of their block."""
    near = [np.minimum(p % block, block - 1 - p % block) for p in (rows, columns)]
    return np.minimum(*near) >= guard


def _mixed(number: np.ndarray) -> np.ndarray:
    """A number whose bits all depend on all bits of another (SplitMix64)."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        number = (number ^ (number >> np.uint64(shift))) * np.uint64(factor)
    return number ^ (number >> np.uint64(31))
