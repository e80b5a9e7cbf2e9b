"""Co-occurrence texture of one window as plain loops over its pairs, in float64.

Written from Haralick et al. (1973) and scikit-image's definition: a pair lies inside
the window, counts in both orders, and the matrix sums to 1. Natural logarithm.
"""

import math

import numpy as np


def matrix(levels_of_window, levels, offset):
    """The normalized symmetric matrix P(i, j) of a window (y, x) of gray levels."""
    counts = np.zeros((levels, levels))
    rows, columns = levels_of_window.shape
    for y in range(rows):
        for x in range(columns):
            v, u = y + offset[0], x + offset[1]
            if 0 <= v < rows and 0 <= u < columns:
                i, j = levels_of_window[y, x], levels_of_window[v, u]
                counts[i, j] += 1
                counts[j, i] += 1
    return counts / counts.sum()


def features(probability):
    """All features of one matrix, by name."""
    levels = range(len(probability))
    cells = [(i, j, probability[i, j]) for i in levels for j in levels]
    mean = sum(p * i for i, j, p in cells)
    variance = sum(p * (i - mean) ** 2 for i, j, p in cells)
    covariance = sum(p * (i - mean) * (j - mean) for i, j, p in cells)
    asm = sum(p * p for i, j, p in cells)
    return {
        "contrast": sum(p * (i - j) ** 2 for i, j, p in cells),
        "dissimilarity": sum(p * abs(i - j) for i, j, p in cells),
        "homogeneity": sum(p / (1 + (i - j) ** 2) for i, j, p in cells),
        "asm": asm,
        "energy": math.sqrt(asm),
        "entropy": -sum(p * math.log(p) for i, j, p in cells if p > 0),
        "mean": mean,
        "variance": variance,
        "correlation": covariance / variance if variance > 1e-15 else 1.0,
        "cluster_shade": sum(p * (i + j - 2 * mean) ** 3 for i, j, p in cells),
        "cluster_prominence": sum(p * (i + j - 2 * mean) ** 4 for i, j, p in cells),
    }


def texture(gray, valid, *, window, levels, offsets, names):
    """Texture (direction, feature, y, x); NaN by the rule of whole, valid windows."""
    rows, columns = gray.shape
    radius = window // 2
    result = np.full((len(offsets), len(names), rows, columns), np.nan)
    for y in range(radius, rows - radius):
        for x in range(radius, columns - radius):
            around = (
                slice(y - radius, y + radius + 1),
                slice(x - radius, x + radius + 1),
            )
            if not valid[around].all():
                continue
            for direction, offset in enumerate(offsets):
                found = features(matrix(gray[around], levels, offset))
                result[direction, :, y, x] = [found[name] for name in names]
    return result
