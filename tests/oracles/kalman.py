"""The Kalman smoother and its estimates as plain loops, in float64, for one band."""

import math

import numpy as np


def smooth_pixel(days, fine, coarse, motion, noise, start):
    """Mean and variance of f on each day: forward filter, then Rauch, Tung and Striebel.

    `fine` and `coarse` hold a number or NaN for each day; `motion` is the 2x2 covariance of
    a day's motion, `noise` the variances of (fine, coarse), `start` the mean and covariance
    before the first day.
    """
    mean, covariance = np.array(start[0], float), np.array(start[1], float)
    predicted, filtered = [], []
    for number, day in enumerate(days):
        length = day - days[number - 1] if number else 0
        covariance = covariance + motion * length
        predicted.append((mean, covariance))
        for which, value in ((0, fine[number]), (1, coarse[number])):
            if math.isfinite(value):
                row = np.zeros((1, 2))
                row[0, which] = 1
                spread = row @ covariance @ row.T + noise[which]
                gain = covariance @ row.T / spread
                mean = mean + (gain * (value - row @ mean)).ravel()
                covariance = (np.eye(2) - gain @ row) @ covariance
        filtered.append((mean, covariance))
    smoothed = [filtered[-1]]
    for t in range(len(days) - 2, -1, -1):
        mean, covariance = filtered[t]
        back = covariance @ np.linalg.inv(predicted[t + 1][1])
        later_mean, later_covariance = smoothed[0]
        smoothed.insert(
            0,
            (
                mean + back @ (later_mean - predicted[t + 1][0]),
                covariance + back @ (later_covariance - predicted[t + 1][1]) @ back.T,
            ),
        )
    return [m[0] for m, _ in smoothed], [c[0, 0] for _, c in smoothed]


def between(days, values, wanted):
    """The line in time between the nearest valid values; the nearest one outside."""
    known = [(d, v) for d, v in zip(days, values, strict=True) if math.isfinite(v)]
    return np.interp(wanted, *zip(*known, strict=True)) if known else math.nan


def motion_of(fine_days, fine, coarse_days, coarse, scale):
    """q, r, s and u of one band; images (date, y, x), coarse ones replicated."""
    apart = []
    for lag in (1, 2, 3):
        squares, days = [], []
        for k in range(len(coarse_days) - lag):
            for cell in np.ndindex(*(n // scale for n in coarse.shape[1:])):
                place = tuple(scale * i for i in cell)
                off = coarse[(k + lag, *place)] - coarse[(k, *place)]
                if math.isfinite(off):
                    squares.append(off**2)
                    days.append(coarse_days[k + lag] - coarse_days[k])
        apart.append((np.mean(days), np.mean(squares), len(days)))
    x, y, n = np.array(apart).T
    q = np.polyfit(x, y, 1, w=np.sqrt(n))[0]
    most = (n * y).sum() / (n * x).sum()
    q = min(max(q, 0), most)
    r = max(((n * y).sum() - q * (n * x).sum()) / n.sum(), 0) / 2
    changes, pixels = [], list(np.ndindex(*fine.shape[1:]))
    for p in pixels:
        series = coarse[(slice(None), *p)]
        for k in range(len(fine_days) - 1):
            d1, d2 = fine_days[k : k + 2]
            dx = between(coarse_days, series, d2) - between(coarse_days, series, d1)
            dy = fine[(k + 1, *p)] - fine[(k, *p)]
            if math.isfinite(dx + dy):
                changes.append((dx, dy, d2 - d1))
    dx, dy, length = np.array(changes).T
    s = (dx * dy / length).sum() / (dx * dx / length).sum()
    missed = []
    for p in pixels:
        series = coarse[(slice(None), *p)]
        own = [
            fine[(k, *p)] - s * between(coarse_days, series, day)
            for k, day in enumerate(fine_days)
        ]
        for k in range(1, len(fine_days) - 1):
            d1, d2 = fine_days[k] - fine_days[k - 1], fine_days[k + 1] - fine_days[k]
            off = own[k] - (own[k - 1] * d2 + own[k + 1] * d1) / (d1 + d2)
            if math.isfinite(off):
                missed.append(off**2 / (d1 * d2 / (d1 + d2)))
    return q, r, s, np.mean(missed)


def pixel_motion(fine_days, fine, seen, scene, *, spread, prior):
    """A pixel's own slope and motion, from its fine values and the coarse ones then.

    `scene` holds the scene's slope and motion.
    """
    slope, motion = scene
    precision, gain = 1 / spread**2, 0.0
    for k in range(len(fine) - 1):
        variance = motion * (fine_days[k + 1] - fine_days[k])
        x, y = seen[k + 1] - seen[k], fine[k + 1] - fine[k]
        if math.isfinite(x + y):
            precision += x * x / variance
            gain += x * (y - slope * x) / variance
    slope += gain / precision
    squares = []
    for k in range(1, len(fine) - 1):
        d1, d2 = fine_days[k] - fine_days[k - 1], fine_days[k + 1] - fine_days[k]
        own = [fine[j] - slope * seen[j] for j in (k - 1, k, k + 1)]
        off = own[1] - (own[0] * d2 + own[2] * d1) / (d1 + d2)
        if math.isfinite(off):
            squares.append(off**2 / (d1 * d2 / (d1 + d2)))
    return slope, (prior * motion + sum(squares)) / (prior + len(squares))
