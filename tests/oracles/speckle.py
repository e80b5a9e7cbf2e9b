"""Speckle filters as plain loops over the pixels of one image (y, x), in float64.

Each is written from its paper (see geofuse/rasters/speckle/). A window is the list of the
valid pixels in it, cut at the edge of the image; an invalid pixel stays invalid.
"""

import math

import numpy as np


def window_of(image, y, x, radius):
    """(row offset, column offset, value) of the valid pixels in reach of a pixel."""
    found = []
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            v, u = y + down, x + right
            if 0 <= v < image.shape[0] and 0 <= u < image.shape[1]:
                value = float(image[v, u])
                if math.isfinite(value):
                    found.append((down, right, value))
    return found


def mean_and_variance(values):
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def filtered(image, radius, estimate):
    """Apply `estimate(value, window)` at each valid pixel."""
    result = np.full(image.shape, np.nan)
    for y, x in np.ndindex(image.shape):
        if math.isfinite(image[y, x]):
            around = window_of(image, y, x, radius)
            result[y, x] = estimate(float(image[y, x]), around)
    return result


def boxcar(image, window):
    return filtered(
        image,
        window // 2,
        lambda value, around: mean_and_variance([v for *_, v in around])[0],
    )


def lee(image, window, looks):
    def estimate(value, around):
        mean, variance = mean_and_variance([v for *_, v in around])
        ci2, cu2 = variance / mean**2, 1 / looks
        k = 1 - cu2 / ci2 if ci2 > cu2 else 0.0
        return mean + k * (value - mean)

    return filtered(image, window // 2, estimate)


def kuan(image, window, looks):
    def estimate(value, around):
        mean, variance = mean_and_variance([v for *_, v in around])
        ci2, cu2 = variance / mean**2, 1 / looks
        k = (1 - cu2 / ci2) / (1 + cu2) if ci2 > cu2 else 0.0
        return mean + k * (value - mean)

    return filtered(image, window // 2, estimate)


def gamma_map(image, window, looks):
    def estimate(value, around):
        mean, variance = mean_and_variance([v for *_, v in around])
        ci, cu = math.sqrt(variance) / mean, 1 / math.sqrt(looks)
        if ci <= cu:
            return mean
        if ci >= math.sqrt(2) * cu:
            return value
        alpha = (1 + cu**2) / (ci**2 - cu**2)
        b = alpha - looks - 1
        root = math.sqrt(mean**2 * b**2 + 4 * alpha * looks * value * mean)
        return (b * mean + root) / (2 * alpha)

    return filtered(image, window // 2, estimate)


def frost(image, window, damping):
    def estimate(value, around):
        mean, variance = mean_and_variance([v for *_, v in around])
        alpha = damping * variance / mean**2
        weights = [math.exp(-alpha * math.hypot(y, x)) for y, x, _ in around]
        pairs = zip(weights, around, strict=True)
        return sum(w * v for w, (*_, v) in pairs) / sum(weights)

    return filtered(image, window // 2, estimate)


def refined_lee(image, looks):
    masks = [
        ([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]], lambda y, x: x, ((1, 2), (1, 0))),
        ([[1, 1, 1], [0, 0, 0], [-1, -1, -1]], lambda y, x: -y, ((0, 1), (2, 1))),
        ([[0, 1, 1], [-1, 0, 1], [-1, -1, 0]], lambda y, x: x - y, ((0, 2), (2, 0))),
        ([[1, 1, 0], [1, 0, -1], [0, -1, -1]], lambda y, x: -x - y, ((0, 0), (2, 2))),
    ]

    def estimate(value, around):
        means = np.empty((3, 3))
        for i, j in np.ndindex(3, 3):
            y0, x0 = 2 * i - 2, 2 * j - 2
            near = [v for y, x, v in around if abs(y - y0) <= 1 and abs(x - x0) <= 1]
            means[i, j] = sum(near) / len(near) if near else math.nan
        means[np.isnan(means)] = means[1, 1]
        gradients = [abs((np.array(mask) * means).sum()) for mask, *_ in masks]
        _, ahead, (first, second) = masks[int(np.argmax(gradients))]
        middle = means[1, 1]
        sign = -1 if abs(means[second] - middle) < abs(means[first] - middle) else 1
        half = [v for y, x, v in around if sign * ahead(y, x) >= 0]
        mean, variance = mean_and_variance(half)
        if variance == 0:
            return mean
        cu2 = 1 / looks
        scene = (variance - mean**2 * cu2) / (1 + cu2)
        return mean + max(scene / variance, 0.0) * (value - mean)

    return filtered(image, 3, estimate)


def quegan(stack, window):
    """Of one band (date, y, x)."""
    means = [boxcar(image, window) for image in stack]
    result = np.full(stack.shape, np.nan)
    for y, x in np.ndindex(stack.shape[1:]):
        valid = [k for k in range(len(stack)) if math.isfinite(stack[k, y, x])]
        if valid:
            speckle = sum(stack[k, y, x] / means[k][y, x] for k in valid) / len(valid)
            for k in valid:
                result[k, y, x] = means[k][y, x] * speckle
    return result
