"""Fit-FC as loops, from Wang and Atkinson (2018); slow, one pair, float64.

Nothing is shared with the package: each coarse pixel's line comes from `numpy.polyfit`, each
pixel's similar pixels from a stable sort.
"""

import numpy as np


def fitfc(fine, coarse_base, coarse, scale, *, radius, similar, coarse_radius):
    """Predicted fine image, (band, y, x); the image holds whole coarse pixels."""
    fine, coarse_base, coarse = (
        np.asarray(image, np.float64) for image in (fine, coarse_base, coarse)
    )
    fine = np.where(np.isfinite(coarse_base) & np.isfinite(coarse), fine, np.nan)
    candidates = np.full_like(fine, np.nan)
    for band in range(fine.shape[0]):
        base, wanted = (
            coarsened(image[band], scale) for image in (coarse_base, coarse)
        )
        line, residual = lines(base, wanted, coarse_radius)
        smooth = upsampled(residual, scale)
        for y, x in np.ndindex(fine.shape[1:]):
            slope, intercept = line[:, y // scale, x // scale]
            candidates[band, y, x] = slope * fine[band, y, x] + intercept + smooth[y, x]
    return filtered(fine, candidates, radius, similar)


def coarsened(image, scale):
    """Mean of the valid fine pixels of each coarse pixel."""
    rows, columns = (size // scale for size in image.shape)
    result = np.full((rows, columns), np.nan)
    for i, j in np.ndindex(rows, columns):
        block = image[i * scale : (i + 1) * scale, j * scale : (j + 1) * scale]
        if np.isfinite(block).any():
            result[i, j] = block[np.isfinite(block)].mean()
    return result


def lines(base, wanted, radius):
    """Slope and intercept of `wanted` on `base` around each coarse pixel, and residual."""
    line = np.full((2, *base.shape), np.nan)
    for i, j in np.ndindex(base.shape):
        window = np.s_[
            max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1
        ]
        x, y = base[window].ravel(), wanted[window].ravel()
        valid = np.isfinite(x) & np.isfinite(y)
        if valid.any():
            x, y = x[valid], y[valid]
            constant = np.ptp(x) <= 1e-6 * np.abs(x).max()
            slope = 1.0 if constant else np.polyfit(x - x.mean(), y, 1)[0]
            line[:, i, j] = slope, y.mean() - slope * x.mean()
    return line, wanted - (line[0] * base + line[1])


def upsampled(coarse, scale):
    """Bicubic between the centers; an invalid neighbor counts as the own coarse pixel."""
    rows, columns = coarse.shape
    result = np.full((rows * scale, columns * scale), np.nan)
    for y, x in np.ndindex(result.shape):
        own = coarse[y // scale, x // scale]
        v, u = (y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5
        total = 0.0
        for i in range(int(np.floor(v)) - 1, int(np.floor(v)) + 3):
            for j in range(int(np.floor(u)) - 1, int(np.floor(u)) + 3):
                inside = 0 <= i < rows and 0 <= j < columns
                value = coarse[i, j] if inside and np.isfinite(coarse[i, j]) else own
                total += cubic(abs(v - i)) * cubic(abs(u - j)) * value
        result[y, x] = total
    return result


def cubic(distance):
    """Keys (1981), a = -1/2."""
    if distance <= 1:
        return 1.5 * distance**3 - 2.5 * distance**2 + 1
    if distance < 2:
        return -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return 0.0


def filtered(guide, candidates, radius, similar):
    """Weighted mean of the candidates of the most similar pixels of the window."""
    result = np.full_like(candidates, np.nan)
    height, width = guide.shape[1:]
    for y, x in np.ndindex(height, width):
        bands = np.isfinite(guide[:, y, x])
        if not bands.any():
            continue
        found = []
        for v in range(max(y - radius, 0), min(y + radius + 1, height)):
            for u in range(max(x - radius, 0), min(x + radius + 1, width)):
                off = guide[bands, v, u] - guide[bands, y, x]
                if np.isfinite(off).all():
                    found.append(((off**2).sum(), v, u))
        # A stable sort: ties stay in reading order.
        nearest = sorted(found, key=lambda entry: entry[0])[:similar]
        weights = [
            1 / (1 + np.hypot(v - y, u - x) / (radius + 0.5)) for _, v, u in nearest
        ]
        for band in np.flatnonzero(bands):
            values = [candidates[band, v, u] for _, v, u in nearest]
            result[band, y, x] = np.average(values, weights=weights)
    return result
