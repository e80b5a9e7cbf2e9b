"""Image scores as plain loops over pixels, from their papers; NaN is invalid.

`predicted` and `reference` are (band, y, x) float64; results are per band, or one
number.
"""

import math

import numpy as np


def pixels(predicted, reference):
    """Rows and columns of the pixels that are valid in all bands of both images."""
    _, height, width = reference.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if np.isfinite(predicted[:, y, x]).all()
        and np.isfinite(reference[:, y, x]).all()
    ]


def windows(predicted, reference, before, after):
    """Pixels whose whole window is valid in all bands of both images."""
    valid = set(pixels(predicted, reference))
    reach = range(-before, after + 1)
    return [
        (y, x)
        for y, x in sorted(valid)
        if all((y + dy, x + dx) in valid for dy in reach for dx in reach)
    ]


def errors(predicted, reference):
    """RMSE, MAE, bias of each band, and the pooled RMSE."""
    places = pixels(predicted, reference)
    rmse, mae, bias = [], [], []
    for p, r in zip(predicted, reference, strict=True):
        e = [p[y, x] - r[y, x] for y, x in places]
        rmse.append(math.sqrt(math.fsum(v * v for v in e) / len(e)))
        mae.append(math.fsum(abs(v) for v in e) / len(e))
        bias.append(math.fsum(e) / len(e))
    pooled = math.sqrt(math.fsum(v * v for v in rmse) / len(rmse))
    return {"rmse": rmse, "mae": mae, "bias": bias, "pooled": pooled}


def pearson(predicted, reference):
    places = pixels(predicted, reference)
    result = []
    for p, r in zip(predicted, reference, strict=True):
        p, r = [p[at] for at in places], [r[at] for at in places]
        p_mean, r_mean = math.fsum(p) / len(p), math.fsum(r) / len(r)
        pr = math.fsum((a - p_mean) * (b - r_mean) for a, b in zip(p, r, strict=True))
        pp = math.fsum((a - p_mean) ** 2 for a in p)
        rr = math.fsum((b - r_mean) ** 2 for b in r)
        result.append(pr / math.sqrt(pp * rr))
    return result


def spectral_angle(predicted, reference):
    """Yuhas et al. (1992): mean angle of the spectra in radians, none of them zero."""
    angles = []
    for y, x in pixels(predicted, reference):
        p, r = predicted[:, y, x], reference[:, y, x]
        length = math.sqrt(math.fsum(p * p)) * math.sqrt(math.fsum(r * r))
        if length > 0:
            angles.append(math.acos(max(-1.0, min(1.0, math.fsum(p * r) / length))))
    return math.fsum(angles) / len(angles)


def ergas(predicted, reference, scale):
    """Wald (2000): 100 h/l sqrt(mean over bands of (RMSE / mean)^2)."""
    places = pixels(predicted, reference)
    rmse = errors(predicted, reference)["rmse"]
    level = [math.fsum(r[at] for at in places) / len(places) for r in reference]
    relative = [(e / m) ** 2 for e, m in zip(rmse, level, strict=True)]
    return 100 / scale * math.sqrt(math.fsum(relative) / len(relative))


def ssim(predicted, reference, data_range):
    """Wang et al. (2004), eq. 13: Gaussian window 11 x 11, sigma 1.5."""
    reach = range(-5, 6)
    gauss = {
        (i, j): math.exp(-(i * i + j * j) / (2 * 1.5**2)) for i in reach for j in reach
    }
    weights = {at: g / math.fsum(gauss.values()) for at, g in gauss.items()}
    result = []
    for p, r, span in zip(predicted, reference, data_range, strict=True):
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        values = []
        for y, x in windows(predicted, reference, 5, 5):
            m_p = sum(w * p[y + i, x + j] for (i, j), w in weights.items())
            m_r = sum(w * r[y + i, x + j] for (i, j), w in weights.items())
            pp = pr = rr = 0.0
            for (i, j), w in weights.items():
                a, b = p[y + i, x + j] - m_p, r[y + i, x + j] - m_r
                pp, pr, rr = pp + w * a * a, pr + w * a * b, rr + w * b * b
            luminance = (2 * m_p * m_r + c1) / (m_p**2 + m_r**2 + c1)
            values.append(luminance * (2 * pr + c2) / (pp + rr + c2))
        result.append(math.fsum(values) / len(values))
    return result


def uiqi(predicted, reference):
    """Wang and Bovik (2002), eq. 1: windows of 8 x 8 pixels."""
    result = []
    for p, r in zip(predicted, reference, strict=True):
        values = []
        for y, x in windows(predicted, reference, 4, 3):
            a, b = (image[y - 4 : y + 4, x - 4 : x + 4] for image in (p, r))
            cov = ((a - a.mean()) * (b - b.mean())).sum() / 63
            values.append(
                4
                * cov
                * a.mean()
                * b.mean()
                / ((a.var(ddof=1) + b.var(ddof=1)) * (a.mean() ** 2 + b.mean() ** 2))
            )
        result.append(math.fsum(values) / len(values))
    return result


def edge(predicted, reference):
    """Zhu et al. (2022): Roberts edges, pixels from rank ceil(0.9 n) of the reference.

    The rank is taken over all windows of the reference, invalid predictions or not.
    """
    result = []
    for p, r in zip(predicted, reference, strict=True):
        ranked = sorted(_roberts(r, *at) for at in windows(reference, reference, 1, 1))
        threshold = ranked[math.ceil(round(0.9 * len(ranked), 6))]
        values = []
        for at in windows(predicted, reference, 1, 1):
            r_p, r_r = _roberts(p, *at), _roberts(r, *at)
            if r_r >= threshold:
                values.append((r_p - r_r) / (abs(r_p + r_r) + 1e-5))
        result.append(math.fsum(values) / len(values))
    return result


def _roberts(image, y, x):
    falling = abs(image[y, x] - image[y + 1, x + 1])
    return falling + abs(image[y, x + 1] - image[y + 1, x])


def lbp(predicted, reference):
    """Zhu et al. (2022): local binary patterns, clockwise from the upper left."""
    result = []
    for p, r in zip(predicted, reference, strict=True):
        values = []
        for at in windows(predicted, reference, 1, 1):
            l_p, l_r = _pattern(p, *at) / 255, _pattern(r, *at) / 255
            values.append((l_p - l_r) / (abs(l_p + l_r) + 1e-5))
        result.append(math.fsum(values) / len(values))
    return result


def _pattern(image, y, x):
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    center = round(image[y, x] + 0.005, 8)
    bits = ["1" if round(image[y + i, x + j], 8) > center else "0" for i, j in around]
    return int("".join(bits), 2)
