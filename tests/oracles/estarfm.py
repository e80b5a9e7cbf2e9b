"""ESTARFM and ubESTARFM as plain loops over pixels, in float64.

Written from Zhu et al. (2010), Yu et al. (2023), and what is told of their programs. Both
take the scene's numbers from outside, so that only the rules are compared: `std` of each
pair's fine image, `spread` what thresholds of the coarse images are measured in.
"""

import math

import numpy as np
from scipy import stats


def estarfm(
    fine, base, coarse, *, std, spread, radius, classes, gate="zhu", change=0.4,
    least_similar=6, otherwise="window", valid_range=None,
):  # fmt: skip
    """Images (2 band y x) and (band y x); returns prediction, variance, similar."""
    bands, rows, columns = coarse.shape
    valid = [
        np.isfinite(fine[k]).all(0)
        & np.isfinite(base[k]).all(0)
        & np.isfinite(coarse).all(0)
        for k in (0, 1)
    ]
    predicted, variance = np.full((2, bands, rows, columns), np.nan)
    similar = np.zeros((rows, columns), int)
    for y, x in np.ndindex(rows, columns):
        here = [k for k in (0, 1) if valid[k][y, x]]
        window = around(y, x, radius, rows, columns)
        chosen = [
            (v, u)
            for v, u in window
            if valid[0][v, u]
            and valid[1][v, u]
            and all(
                abs(fine[k, b, v, u] - fine[k, b, y, x]) <= 2 * std[k, b] / classes
                for k in here
                for b in range(bands)
            )
        ]
        similar[y, x] = len(chosen)
        weights = []
        for v, u in chosen:
            unlike = unlikeness(fine[:, :, v, u], base[:, :, v, u], spread)
            distance = 1 + math.hypot(v - y, u - x) / radius
            weights.append(1 / (max(unlike, 1e-6) * distance))
        for b in range(bands):
            drift = [
                mean_change(base[k, b], coarse[b], valid[k], window) for k in (0, 1)
            ]
            share = shares(drift, here, spread[b])
            ends, doubts = {}, {}
            if len(chosen) >= least_similar:
                f = np.array([[fine[k, b, v, u] for v, u in chosen] for k in (0, 1)])
                c = np.array([[base[k, b, v, u] for v, u in chosen] for k in (0, 1)])
                now = np.array([coarse[b, v, u] for v, u in chosen])
                slope = slope_of(f, c, gate, change * spread[b], 0.04 * spread[b])
                wrong = np.mean(((f[1] - f[0]) - slope * (c[1] - c[0])) ** 2)
                total = sum(abs(d) for d in drift)
                for k in here:
                    rise = np.average(now - c[k], weights=weights)
                    ends[k] = fine[k, b, y, x] + slope * rise
                    doubts[k] = wrong * abs(drift[k]) / total
                both = sum(share[k] * ends[k] for k in here)
                if valid_range and not valid_range[0] <= both <= valid_range[1]:
                    ends = {k: np.average(f[k], weights=weights) for k in here}
            else:
                for k in here:
                    rise = drift[k] if otherwise == "window" else 0.0
                    ends[k] = fine[k, b, y, x] + rise
                    doubts[k] = drift[k] ** 2
            if here:
                p = sum(share[k] * ends[k] for k in here)
                predicted[b, y, x] = p
                variance[b, y, x] = sum(
                    share[k] * (doubts[k] + (ends[k] - p) ** 2) for k in here
                )
    return predicted, variance, similar


def ubestarfm(fine, base, coarse, *, std, spread, radius, classes, least_similar=6):
    """One band. Images (2 y x) and (y x); returns prediction and similar (y x)."""
    rows, columns = coarse.shape
    valid = [
        np.isfinite(fine[k]) & np.isfinite(base[k]) & np.isfinite(coarse)
        for k in (0, 1)
    ]
    predicted = np.full((rows, columns), np.nan)
    similar = np.zeros((rows, columns), int)
    for y, x in np.ndindex(rows, columns):
        here = [k for k in (0, 1) if valid[k][y, x]]
        if not here:
            continue
        window = around(y, x, radius, rows, columns)
        chosen = [
            (v, u)
            for v, u in window
            if valid[0][v, u]
            and valid[1][v, u]
            and all(
                abs(fine[k, v, u] - fine[k, y, x]) <= 2 * std[k] / classes for k in here
            )
        ]
        similar[y, x] = len(chosen)
        drift = [mean_change(base[k], coarse, valid[k], window) for k in (0, 1)]
        share = shares(drift, here, spread)
        if len(chosen) >= least_similar:
            bias = [
                np.mean([base[k, v, u] - fine[k, v, u] for v, u in chosen])
                for k in (0, 1)
            ]
            weights = []
            for v, u in chosen:
                off = [abs(fine[k, v, u] + bias[k] - base[k, v, u]) for k in (0, 1)]
                distance = 1 + math.hypot(v - y, u - x) / radius
                weights.append(1 / (max(np.mean(off) / spread, 1e-6) * distance))
            rise = [
                np.average(
                    [coarse[v, u] - base[k, v, u] for v, u in chosen], weights=weights
                )
                for k in (0, 1)
            ]
        else:
            bias = [mean_change(fine[k], base[k], valid[k], window) for k in (0, 1)]
            rise = drift
        predicted[y, x] = sum(
            share[k] * (fine[k, y, x] + bias[k] + rise[k]) for k in here
        )
    return predicted, similar


def around(y, x, radius, rows, columns):
    """The pixels of the window, inside the image."""
    return [
        (v, u)
        for v in range(max(0, y - radius), min(rows, y + radius + 1))
        for u in range(max(0, x - radius), min(columns, x + radius + 1))
    ]


def unlikeness(f, c, spread):
    """1 - R of the spectra of both dates; of one band, their distance in std."""
    if f.shape[1] == 1:
        return np.abs(f - c).mean() / spread[0]
    return 1 - np.corrcoef(f.ravel(), c.ravel())[0, 1]


def mean_change(first, second, valid, window):
    """Mean of second - first over the valid pixels of the window; 0 without any."""
    found = [second[v, u] - first[v, u] for v, u in window if valid[v, u]]
    return np.mean(found) if found else 0.0


def shares(drift, here, spread):
    """T of the pairs that are valid at the pixel."""
    near = {k: 1 / max(abs(drift[k]), 1e-5 * spread) for k in here}
    return {k: near[k] / sum(near.values()) for k in here}


def slope_of(f, c, gate, change, noise):
    """V: slope of the fine on the coarse values, or 1."""
    if gate == "zhu" and abs(c[0].mean() - c[1].mean()) < change:
        return 1.0
    if gate == "imagefusion" and c.ravel().std(ddof=1) <= noise * math.sqrt(2):
        return 1.0
    if gate == "never":
        return 1.0
    line = stats.linregress(c.ravel(), f.ravel())
    # The F-test of a line is the t-test of its slope.
    return line.slope if line.pvalue <= 0.05 and 0 < line.slope <= 5 else 1.0
