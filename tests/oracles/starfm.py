"""STARFM as plain loops, one function a set of rules, in float64.

`starfm_paper` is written from Gao et al. (2006), `starfm_usda` from the description of
the authors' C program, `starfm_robust` from the table in geofuse's own file. All take
the scene's numbers from outside, so that only the rules are compared: `std` of each
pair's fine image, `sigma` the noise of either sensor.
"""

import math

import numpy as np


def starfm_paper(fine, coarse_base, coarse, *, std, sigma, radius, classes, decay):
    """One band. Images (pair y x) and (y x); returns mean, variance, similar (y x)."""
    pairs, rows, columns = fine.shape
    valid = np.isfinite(fine) & np.isfinite(coarse_base) & np.isfinite(coarse)
    mean, variance = np.full((2, rows, columns), np.nan)
    similar = np.zeros((rows, columns), int)
    limit_noise = math.sqrt(sigma**2 + sigma**2)
    for y in range(rows):
        for x in range(columns):
            here = [k for k in range(pairs) if valid[k, y, x]]
            if not here:
                continue
            most_spectral = max(abs(fine[k, y, x] - coarse_base[k, y, x]) for k in here)
            most_temporal = max(abs(coarse_base[k, y, x] - coarse[y, x]) for k in here)
            weights, candidates = [], []
            for k in here:
                for v in range(max(0, y - radius), min(rows, y + radius + 1)):
                    for u in range(max(0, x - radius), min(columns, x + radius + 1)):
                        if not valid[k, v, u]:
                            continue
                        if abs(fine[k, v, u] - fine[k, y, x]) > 2 * std[k] / classes:
                            continue
                        spectral = abs(fine[k, v, u] - coarse_base[k, v, u])
                        temporal = abs(coarse_base[k, v, u] - coarse[v, u])
                        if spectral >= most_spectral + limit_noise:
                            continue
                        if temporal >= most_temporal + limit_noise:
                            continue
                        distance = 1 + math.hypot(v - y, u - x) / decay
                        spectral, temporal = max(spectral, sigma), max(temporal, sigma)
                        weights.append(1 / (spectral * temporal * distance))
                        candidates.append(
                            fine[k, v, u] + coarse[v, u] - coarse_base[k, v, u]
                        )
            w, c = np.array(weights), np.array(candidates)
            mean[y, x] = (w * c).sum() / w.sum()
            variance[y, x] = (w * (c - mean[y, x]) ** 2).sum() / w.sum()
            similar[y, x] = len(w)
    return mean, variance, similar


def starfm_usda(fine, coarse_base, coarse, *, std, sigma, dn, radius, classes, decay):
    """One band, likewise; `dn` is one digital number in the unit of the images."""
    combined_noise = math.sqrt(4 * sigma**2)

    def weight(spectral, temporal, distance):
        combined = spectral / dn + 1
        if len(fine) > 1:
            combined *= temporal / dn + 1
        return 1.0 if combined < combined_noise / dn else 1 / (combined * distance)

    return _either(
        fine, coarse_base, coarse, weight, std, sigma, radius, classes, decay
    )


def starfm_robust(fine, coarse_base, coarse, *, std, sigma, radius, classes, decay):
    """One band, likewise: as the C program, but the noise is added, and nothing copied."""
    noise = math.sqrt(2) * sigma

    def weight(spectral, temporal, distance):
        combined = spectral + noise
        if len(fine) > 1:
            combined *= temporal + noise
        return 1 / (combined * distance)

    return _either(
        fine, coarse_base, coarse, weight, std, sigma, radius, classes, decay
    )


def _either(fine, coarse_base, coarse, weight, std, sigma, radius, classes, decay):
    """A neighbor passes by either test, against the pair where the center is nearest."""
    pairs, rows, columns = fine.shape
    valid = np.isfinite(fine) & np.isfinite(coarse_base) & np.isfinite(coarse)
    mean, variance = np.full((2, rows, columns), np.nan)
    similar = np.zeros((rows, columns), int)
    limit_noise = math.sqrt(sigma**2 + sigma**2)
    for y in range(rows):
        for x in range(columns):
            here = [k for k in range(pairs) if valid[k, y, x]]
            if not here:
                continue
            least_spectral = min(
                abs(fine[k, y, x] - coarse_base[k, y, x]) for k in here
            )
            least_temporal = min(abs(coarse_base[k, y, x] - coarse[y, x]) for k in here)
            weights, candidates = [], []
            for k in here:
                for v in range(max(0, y - radius), min(rows, y + radius + 1)):
                    for u in range(max(0, x - radius), min(columns, x + radius + 1)):
                        if not valid[k, v, u]:
                            continue
                        if abs(fine[k, v, u] - fine[k, y, x]) >= 2 * std[k] / classes:
                            continue
                        spectral = abs(fine[k, v, u] - coarse_base[k, v, u])
                        temporal = abs(coarse_base[k, v, u] - coarse[v, u])
                        if (
                            spectral > least_spectral + limit_noise
                            and temporal > least_temporal + limit_noise
                        ):
                            continue
                        distance = 1 + math.hypot(v - y, u - x) / decay
                        weights.append(weight(spectral, temporal, distance))
                        candidates.append(
                            fine[k, v, u] + coarse[v, u] - coarse_base[k, v, u]
                        )
            w, c = np.array(weights), np.array(candidates)
            mean[y, x] = (w * c).sum() / w.sum()
            variance[y, x] = (w * (c - mean[y, x]) ** 2).sum() / w.sum()
            similar[y, x] = len(w)
    return mean, variance, similar
