"""Unmixing and FSDAF as loops over pixels, from their papers; slow, one pair, float64.

Class centers and the scene's class values are given, so that only what happens at a pixel is
compared. Least squares with bounds come from SciPy's solver, splines from SciPy's
interpolator, similar pixels from a stable sort.
"""

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.optimize import lsq_linear

from tests.oracles.fitfc import coarsened, filtered, upsampled


def nearest_class(fine, centers, spread):
    """Class of each pixel, -1 where no band is valid."""
    label = np.full(fine.shape[1:], -1)
    for y, x in np.ndindex(label.shape):
        pixel = fine[:, y, x]
        known = np.isfinite(pixel)
        if known.any():
            off = ((pixel - centers) / spread)[:, known]
            label[y, x] = np.argmin((off**2).sum(axis=1))
    return label


def class_shares(label, classes, scale):
    """Share of each class in the classified pixels of each coarse pixel."""
    rows, columns = (size // scale for size in label.shape)
    share = np.full((classes, rows, columns), np.nan)
    for i, j in np.ndindex(rows, columns):
        block = label[i * scale : (i + 1) * scale, j * scale : (j + 1) * scale]
        known = block[block >= 0]
        if known.size:
            share[:, i, j] = [(known == k).mean() for k in range(classes)]
    return share


def unmixing(images, scale, summary, *, classes, coarse_radius, detail, ridge):
    """Predicted fine image, (band, y, x); the image holds whole coarse pixels."""
    fine, base, coarse = (np.asarray(image, np.float64) for image in images)
    fine = np.where(np.isfinite(base) & np.isfinite(coarse), fine, np.nan)
    label = nearest_class(fine, summary.centers[0], summary.spread[0])
    share = class_shares(label, classes, scale)
    predicted = np.full_like(fine, np.nan)
    for band in range(len(fine)):
        valid = np.isfinite(fine[band])
        dates = [
            coarsened(np.where(valid, date, np.nan), scale)
            for date in (base[band], coarse[band])
        ]
        low, high = summary.lowest[0, band], summary.highest[0, band]
        bounds = low - 0.5 * (high - low), high + 0.5 * (high - low)
        values = [
            window_values(share, date, prior[0, :, band], bounds, coarse_radius, ridge)
            for date, prior in zip(dates, (summary.base, summary.wanted), strict=True)
        ]
        start, end = values
        explained = np.where(np.isfinite(share), end - start if detail else end, np.nan)
        left = (dates[1] - dates[0]) - (share * explained).sum(axis=0)
        smooth = [upsampled(image, scale) for image in explained]
        rest = upsampled(left, scale)
        for y, x in np.ndindex(fine.shape[1:]):
            k = label[y, x]
            if k < 0 or not valid[y, x]:
                continue
            if detail:
                predicted[band, y, x] = fine[band, y, x] + smooth[k][y, x] + rest[y, x]
            else:
                predicted[band, y, x] = end[k, y // scale, x // scale]
    return predicted


def window_values(share, coarse, prior, bounds, radius, ridge):
    """Value of each class around each coarse pixel, by bounded least squares."""
    values = np.full(share.shape, np.nan)
    for i, j in np.ndindex(coarse.shape):
        window = np.s_[
            max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1
        ]
        f, c = share[:, *window].reshape(len(share), -1).T, coarse[window].ravel()
        valid = np.isfinite(c) & np.isfinite(f).all(axis=1)
        system = np.concatenate([f[valid], np.sqrt(ridge) * np.eye(len(share))])
        wanted = np.concatenate([c[valid], np.sqrt(ridge) * prior])
        values[:, i, j] = lsq_linear(system, wanted, bounds, tol=1e-12).x
    return values


def fsdaf(images, scale, summary, *, classes, radius, similar, reach):
    """Predicted fine image, (band, y, x); the image holds whole coarse pixels."""
    fine, base, coarse = (np.asarray(image, np.float64) for image in images)
    fine = np.where(np.isfinite(base) & np.isfinite(coarse), fine, np.nan)
    label = nearest_class(fine, summary.centers[0], summary.spread[0])
    alike = homogeneity(label, scale // 2)
    change = np.full_like(fine, np.nan)
    for band in range(len(fine)):
        by_class = (summary.wanted - summary.base)[0, :, band]
        step = np.where(np.isfinite(fine[band]), by_class[label], np.nan)
        usable = np.isfinite(fine[band])
        start, end = (
            coarsened(np.where(usable, d, np.nan), scale)
            for d in (base[band], coarse[band])
        )
        rest = end - start - coarsened(step, scale)
        surface = splines(end, scale, reach)
        for i, j in np.ndindex(rest.shape):
            cell = np.s_[i * scale : (i + 1) * scale, j * scale : (j + 1) * scale]
            off = surface[cell] - (fine[band][cell] + step[cell])
            off = np.where(off * rest[i, j] > 0, np.abs(off), 0)
            weight = off * alike[cell] + abs(rest[i, j]) * (1 - alike[cell])
            weight = np.where(np.isfinite(fine[band][cell]), weight, np.nan)
            mean = np.nanmean(weight) if np.isfinite(weight).any() else 0
            weight = weight / mean if mean > 0 else np.ones_like(weight)
            weight[weight > 10] = 1
            change[band][cell] = step[cell] + weight * rest[i, j]
    return fine + filtered(fine, change, radius, similar)


def homogeneity(label, radius):
    """Share of the classified pixels of the window that are of the pixel's class."""
    result = np.zeros(label.shape)
    for y, x in np.ndindex(label.shape):
        window = label[
            max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1
        ]
        known = (window >= 0).sum()
        if known and label[y, x] >= 0:
            result[y, x] = (window == label[y, x]).sum() / known
    return result


def splines(coarse, scale, reach):
    """A thin-plate spline through the coarse pixels of a window, in each coarse pixel.

    A coarse pixel that is missing counts as equal to the central one.
    """
    inside = (np.arange(scale) + 0.5) / scale - 0.5
    places = np.stack(np.meshgrid(inside, inside, indexing="ij"), axis=-1).reshape(
        -1, 2
    )
    offsets = np.arange(-reach, reach + 1)
    points = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape(
        -1, 2
    )
    result = np.full((coarse.shape[0] * scale, coarse.shape[1] * scale), np.nan)
    for i, j in np.ndindex(coarse.shape):
        values = []
        for dy, dx in points:
            y, x = i + dy, j + dx
            inside_image = 0 <= y < coarse.shape[0] and 0 <= x < coarse.shape[1]
            value = coarse[y, x] if inside_image else np.nan
            values.append(value if np.isfinite(value) else coarse[i, j])
        if np.isfinite(coarse[i, j]):
            spline = RBFInterpolator(points, values, kernel="thin_plate_spline")
            cell = np.s_[i * scale : (i + 1) * scale, j * scale : (j + 1) * scale]
            result[cell] = spline(places).reshape(scale, scale)
    return result
