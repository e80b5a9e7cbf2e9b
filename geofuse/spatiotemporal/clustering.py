"""Clusters of fine pixels: the cover classes of a scene, where nobody gives a map.

A sample of the scene, scaled by the standard deviation of each band, falls into clusters
(k-means). All is seeded and made of the whole scene, so that the same scene has the same
classes whatever its tiles.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float


class Centers(NamedTuple):
    """Centers (pair, cover, band) and spread (pair, band), float32."""

    centers: np.ndarray
    spread: np.ndarray


def sample_fine(step: int, arrays: Mapping[str, Any], _: Any) -> list[np.ndarray]:
    """Every step-th pixel of each pair's fine image that is valid in all bands."""
    found = []
    for number in range(pairs_in(arrays)):
        pixels = arrays[f"fine_{number}"][:, ::step, ::step]
        pixels = pixels.reshape(len(pixels), -1).T
        found.append(pixels[np.isfinite(pixels).all(axis=1)].astype(np.float64))
    return found


def cluster(classes: int, samples: list[list[np.ndarray]]) -> Centers:
    """Centers of the classes of each pair, from the samples of all windows."""
    centers, spreads = [], []
    for parts in zip(*samples, strict=True):
        pixels = np.concatenate(parts)
        bands = pixels.shape[1]
        spread = pixels.std(axis=0) if len(pixels) else np.ones(bands)
        level = np.abs(pixels).max(axis=0, initial=0.0)
        spread = np.where(spread > 1e-6 * level, spread, 1.0)
        if len(pixels):
            found = k_means(pixels / spread, classes) * spread
            found = found[np.argsort(found[:, 0], kind="stable")]
        else:
            found = np.full((classes, bands), np.nan)
        centers.append(found)
        spreads.append(spread)
    return Centers(np.array(centers, np.float32), np.array(spreads, np.float32))


def k_means(
    points: Float[np.ndarray, "point band"], count: int, *, steps: int = 50
) -> Float[np.ndarray, "cover band"]:
    """Centers of clusters: Lloyd's steps from seeds drawn far apart, best of four.

    Seeded: the same points give the same centers. With fewer different points than
    centers, centers coincide.

    References:
        Arthur, D., Vassilvitskii, S. (2007). k-means++. SODA.
    """
    rng = np.random.default_rng(0)
    shift = points.mean(axis=0)  # differences of large numbers lose digits
    points = points - shift
    best, least = np.zeros((count, points.shape[1])), np.inf
    for _ in range(4):
        centers = _seeds(points, count, rng)
        for _ in range(steps):
            off = _squares(points, centers)
            label = off.argmin(axis=1)
            sums = np.zeros_like(centers)
            np.add.at(sums, label, points)
            size = np.bincount(label, minlength=count)[:, None]
            moved = np.where(size > 0, sums / np.maximum(size, 1), centers)
            if np.allclose(moved, centers, rtol=0, atol=1e-6):
                break
            centers = moved
        total = _squares(points, centers).min(axis=1).sum()
        if total < least:
            best, least = centers, total
    return best + shift


def _seeds(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points drawn one by one, the likelier the farther they lie from those drawn."""
    seeds = [points[rng.integers(len(points))]]
    for _ in range(1, count):
        far = _squares(points, np.array(seeds)).min(axis=1)
        total = far.sum()
        place = rng.choice(len(points), p=far / total) if total > 0 else 0
        seeds.append(points[place])
    return np.array(seeds)


def _squares(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    return ((points[:, None] - centers[None]) ** 2).sum(axis=2)


def pairs_in(arrays: Mapping[str, Any]) -> int:
    """Number of pairs whose images are among the windows of a tile."""
    return sum(name.startswith("fine_") for name in arrays)
