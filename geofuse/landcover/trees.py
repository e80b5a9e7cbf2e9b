r"""Ensembles of decision trees as plain arrays: what forests and boosting have in common.

           x[3] <= 0.2                split      [2 * 3 + 1, leaf, 2 * 0, leaf, leaf]
          /           \                threshold  [0.2, 1.5]
       leaf a      x[0] <= 1.5        leaf       [a, b, c]
                   /       \           size       [5, …]
               leaf b     leaf c

Trees are stored level by level, so that the children of the n-th split of a tree are its
nodes 2 n + 1 and 2 n + 2 and need not be written down. A split that sends missing values
to the left has the even number 2 * feature, one that sends them to the right an odd one.

Predicting needs no other library, and no code is stored: an ensemble is some numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, no_type_check

import numpy as np
from numba import njit

from geofuse.errors import ParameterError
from geofuse.training.weights import Weights
from geofuse.uncertainty.classes import entropy

#: What stands for a leaf among the splits.
LEAF = -1
#: Values no larger than this are 0 for LightGBM.
LIKE_ZERO = np.float32(1e-35)
#: Rows that go through a tree before the next tree: they lie in cache, as the tree does.
_ROWS = 128
#: Whole numbers up to this one are exact as float32.
_EXACT = 2**24

Link = Literal["mean", "softmax", "sigmoid"]


class GrownTree(NamedTuple):
    """A tree as a library has grown it; node 0 is the root.

    Attributes:
        feature: Which feature a node looks at, -1 for leaves, (node,).
        threshold: Values up to it go left, (node,), float64.
        left: Left child of each node, (node,).
        right: Right child.
        missing_left: Whether a missing value goes left, (node,).
        value: What a leaf adds, (node, value).
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    value: np.ndarray


class _Nodes(NamedTuple):
    """What the compiled loop reads: one entry a node of all trees."""

    split: np.ndarray
    threshold: np.ndarray
    child: np.ndarray
    row: np.ndarray
    root: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class TreeEnsemble:
    """Decision trees whose leaves are averaged, or added up.

    Attributes:
        classes: Numbers of the classes that were learned, one a column of the result.
        features: How many features a row has.
        link: `mean`: leaves hold shares of the classes, and trees are averaged (forests).
            `softmax`: tree t adds to the score of class t modulo the number of classes.
            `sigmoid`: all trees add to the score of the second of two classes.
        start: Scores before any tree.
        trees: Splits, thresholds, leaves and sizes; see the module.
        zero_is_missing: Values within 1e-35 of 0 count as missing.
    """

    classes: tuple[int, ...]
    features: int
    link: Link
    start: tuple[float, ...]
    trees: Weights
    zero_is_missing: bool = False

    @property
    def count(self) -> int:
        """How many trees there are."""
        return self.trees.arrays["size"].size

    def probability(self, rows: np.ndarray) -> np.ndarray:
        """Probability of each class.

        Args:
            rows: Features (row, feature), NaN where missing; compared as float32.

        Returns:
            Probabilities (row, class), float32, summing to 1.

        Raises:
            ParameterError: Rows have another number of features.
        """
        return self.decided(rows)[0]

    def decided(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability of each class, and the mean entropy of what single trees say.

        Args:
            rows: See `probability`.

        Returns:
            Probabilities (row, class), and entropies (row,) in nats: of a forest the mean
            over its trees, of boosted trees, which decide only together, that of the
            probabilities. Float32.
        """
        sums = self._sums(rows)
        if self.link == "mean":
            sums /= self.count
            probability, agreed = sums[:, :-1], sums[:, -1]
            probability /= probability.sum(axis=1, keepdims=True)
            return probability.astype(np.float32), agreed.astype(np.float32)
        if self.link == "sigmoid":
            second = 1 / (1 + np.exp(-sums[:, 0]))
            probability = np.stack([1 - second, second], axis=1)
        else:
            sums -= sums.max(axis=1, keepdims=True)
            probability = np.exp(sums)
            probability /= probability.sum(axis=1, keepdims=True)
        agreed = entropy(probability, axis=-1)
        return probability.astype(np.float32), agreed.astype(np.float32)

    def _sums(self, rows: np.ndarray) -> np.ndarray:
        """What the leaves of all trees add up to, (row, output), float64."""
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ParameterError(
                f"expected rows of {self.features} features, found {rows.shape}; give "
                "(row, feature), in the order that was learned"
            )
        nodes, leaves = self._nodes, self._leaves
        outputs = 1 if self.link == "sigmoid" else len(self.start)
        sums = np.empty((len(rows), outputs), np.float64)
        sums[:] = self.start
        _descend(
            np.ascontiguousarray(rows, np.float32),
            nodes.split,
            nodes.threshold,
            nodes.child,
            nodes.row,
            nodes.root,
            nodes.depth,
            leaves,
            LIKE_ZERO if self.zero_is_missing else np.float32(-1),
            sums,
        )
        return sums

    @cached_property
    def _leaves(self) -> np.ndarray:
        leaves = self.trees.arrays["leaf"]
        if self.link != "mean":
            return leaves
        own = entropy(leaves.astype(np.float64), axis=-1).astype(np.float32)
        return np.ascontiguousarray(np.concatenate([leaves, own[:, None]], axis=1))

    @cached_property
    def _nodes(self) -> _Nodes:
        """The nodes with all that follows from their order written out."""
        arrays = self.trees.arrays
        sizes = arrays["size"].astype(np.int64)
        split = arrays["split"].astype(np.int32)
        root = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        first = np.repeat(root, sizes)
        inner = split != LEAF
        before = np.cumsum(inner) - inner
        number = before - before[first]
        here = np.arange(len(split))
        # A leaf is its own left child, and everything goes left there: all rows may walk
        # as many steps as the deepest one, without asking.
        threshold = np.full(len(split), np.inf, np.float32)
        threshold[inner] = arrays["threshold"]
        child = np.where(inner, first + 1 + 2 * number, here)
        row = np.where(inner, 0, np.cumsum(~inner) - 1)
        return _Nodes(
            np.where(inner, split, 0).astype(np.int32),
            threshold,
            child.astype(np.int32),
            row.astype(np.int32),
            root,
            _depths(child, inner, root),
        )


def ensemble_of(
    trees: Sequence[GrownTree],
    *,
    classes: Sequence[int],
    features: int,
    link: Link,
    start: Sequence[float] = (),
    zero_is_missing: bool = False,
) -> TreeEnsemble:
    """Put trees into plain arrays.

    Args:
        trees: As grown; where each adds to one class, class by class in turn.
        classes: Numbers of the classes.
        features: How many features a row has.
        link: See `TreeEnsemble`.
        start: Scores before any tree; of a forest none.
        zero_is_missing: See `TreeEnsemble`.

    Raises:
        ParameterError: There is no tree, or there are too many nodes.
    """
    if not trees:
        raise ParameterError("expected at least one tree, found none; train longer")
    sizes = np.array([len(tree.feature) for tree in trees])
    offset = np.cumsum(sizes) - sizes
    if max(sizes.max(), 2 * features) >= _EXACT:
        raise ParameterError(
            f"expected trees of fewer than {_EXACT} nodes, found {sizes.max()}; grow "
            "smaller trees, with more pixels in a leaf"
        )
    shift = np.repeat(offset, sizes)
    feature = np.concatenate([tree.feature for tree in trees]).astype(np.int64)
    left = np.concatenate([tree.left for tree in trees]).astype(np.int64) + shift
    right = np.concatenate([tree.right for tree in trees]).astype(np.int64) + shift
    order = _by_level(feature < 0, left, right, offset)
    inner = feature[order] >= 0
    to_right = 1 - np.concatenate([tree.missing_left for tree in trees]).astype(
        np.int64
    )
    thresholds = np.concatenate([tree.threshold for tree in trees])[order][inner]
    values = np.concatenate([tree.value for tree in trees])[order][~inner]
    arrays = {
        "split": np.where(inner, 2 * feature[order] + to_right[order], LEAF),
        "threshold": rounded_down(thresholds),
        "leaf": values,
        "size": np.bincount(np.repeat(np.arange(len(trees)), sizes)[order]),
    }
    outputs = len(classes) + 1 if link == "mean" else len(start)
    return TreeEnsemble(
        classes=tuple(map(int, classes)),
        features=features,
        link=link,
        start=tuple(map(float, start)) or (0.0,) * outputs,
        trees=Weights(arrays),
        zero_is_missing=zero_is_missing,
    )


def rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each threshold.

    A float32 is at most the one exactly where it is at most the other, so that no decision
    changes.

    >>> rounded_down(np.array([0.1, 0.5])) <= np.array([0.1, 0.5])
    array([ True,  True])
    """
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    above = near.astype(np.float64) > thresholds
    return np.where(above, np.nextafter(near, np.float32(-np.inf)), near)


def _by_level(
    leaf: np.ndarray, left: np.ndarray, right: np.ndarray, roots: np.ndarray
) -> np.ndarray:
    """Nodes that are reached, tree by tree and there level by level."""
    nodes, owners = roots, np.arange(len(roots))
    found, of = [], []
    while nodes.size:
        found.append(nodes)
        of.append(owners)
        inner = ~leaf[nodes]
        parents = nodes[inner]
        nodes = np.stack([left[parents], right[parents]], axis=1).ravel()
        owners = np.repeat(owners[inner], 2)
    return np.concatenate(found)[np.argsort(np.concatenate(of), kind="stable")]


def _depths(child: np.ndarray, inner: np.ndarray, root: np.ndarray) -> np.ndarray:
    """How many splits the longest way through each tree has."""
    depth = np.zeros(len(root), np.int64)
    nodes, owners = root, np.arange(len(root))
    while True:
        going = inner[nodes]
        parents, owners = nodes[going], owners[going]
        if not parents.size:
            return depth
        depth[np.unique(owners)] += 1
        nodes = np.stack([child[parents], child[parents] + 1], axis=1).ravel()
        owners = np.repeat(owners, 2)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _next(x, threshold, split, child, hole):
    """The child that a value goes to; a missing one, also NaN, as the split says."""
    if abs(x) > hole:
        return child + (x > threshold)
    return child + (split & 1)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _descend(rows, split, threshold, child, row, root, depth, leaves, hole, sums):
    """Send all rows through all trees and add up their leaves.

    Four rows go down side by side: each step waits for memory, and they wait together.
    """
    count = rows.shape[0]
    width = leaves.shape[1]
    outputs = sums.shape[1]
    for start in range(0, count, _ROWS):
        stop = min(start + _ROWS, count)
        for tree in range(root.size):
            output = tree % outputs if width == 1 else 0
            steps = depth[tree]
            for i in range(start, stop, 4):
                a, b, c, d = i, min(i + 1, stop - 1), min(i + 2, stop - 1), stop - 1
                d = min(i + 3, d)
                na = nb = nc = nd = root[tree]
                for _ in range(steps):
                    sa, sb, sc, sd = split[na], split[nb], split[nc], split[nd]
                    na = _next(rows[a, sa >> 1], threshold[na], sa, child[na], hole)
                    nb = _next(rows[b, sb >> 1], threshold[nb], sb, child[nb], hole)
                    nc = _next(rows[c, sc >> 1], threshold[nc], sc, child[nc], hole)
                    nd = _next(rows[d, sd >> 1], threshold[nd], sd, child[nd], hole)
                for k in range(width):
                    sums[a, output + k] += leaves[row[na], k]
                    if b > a:
                        sums[b, output + k] += leaves[row[nb], k]
                    if c > b:
                        sums[c, output + k] += leaves[row[nc], k]
                    if d > c:
                        sums[d, output + k] += leaves[row[nd], k]
