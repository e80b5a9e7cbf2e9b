"""Training losses as loops over patches and pixels."""

import math

import numpy as np


def mean_of_patches(patches):
    """Mean over patches of the mean of their valid values; 0 for a patch without one."""
    return np.mean([np.mean(values) if values else 0.0 for values in patches])


def valid_pixels(*images):
    for place in np.ndindex(images[0].shape):
        values = [float(image[place]) for image in images]
        if all(math.isfinite(value) for value in values):
            yield values


def charbonnier(predicted, truth, width):
    return mean_of_patches(
        [
            [math.hypot(p - t, width) - width for p, t in valid_pixels(*patch)]
            for patch in zip(predicted, truth, strict=True)
        ]
    )


def beta_nll(predicted, log_variance, truth, beta, limits):
    def one(p, v, t):
        variance = math.exp(min(max(v, limits[0]), limits[1]))
        return variance**beta * 0.5 * (math.log(variance) + (p - t) ** 2 / variance)

    return mean_of_patches(
        [
            [one(*values) for values in valid_pixels(*patch)]
            for patch in zip(predicted, log_variance, truth, strict=True)
        ]
    )


def spectral_angle(predicted, truth):
    patches = []
    for p, t in zip(predicted.astype(float), truth.astype(float), strict=True):
        angles = []
        for y, x in np.ndindex(p.shape[1:]):
            u, v = p[:, y, x], t[:, y, x]
            lengths = np.linalg.norm(u) * np.linalg.norm(v)
            if np.isfinite(lengths) and lengths > 0:
                angles.append(np.arccos(np.clip(u @ v / lengths, -1, 1)))
        patches.append(angles)
    return mean_of_patches(patches)


def physical_consistency(predicted, coarse, scale, noise):
    patches = []
    for p, c in zip(predicted, coarse, strict=True):
        costs = []
        for band, y, x in np.ndindex(
            p.shape[0], p.shape[1] // scale, p.shape[2] // scale
        ):
            cell = (
                band,
                slice(y * scale, (y + 1) * scale),
                slice(x * scale, (x + 1) * scale),
            )
            errors = [a - b for a, b in valid_pixels(p[cell], c[cell])]
            if len(errors) >= scale**2 / 2:
                costs.append(max(abs(np.mean(errors)) - noise, 0) ** 2)
        patches.append(costs)
    return mean_of_patches(patches)
