"""PrecisionFusion written out, from what its members predict of whole scenes."""

import numpy as np


def cells(image, scale):
    """Means of the coarse pixels of a scene without holes: (…, row, column)."""
    *lead, rows, columns = image.shape
    shape = (*lead, rows // scale, scale, columns // scale, scale)
    return image.reshape(shape).mean(axis=(-3, -1))


def nearby(change, scale):
    """Halfway between the power of the coarse change near a pixel and the scene's."""
    square = cells(change, scale) ** 2
    found = np.empty_like(square)
    for band, row, column in np.ndindex(square.shape):
        rows = slice(max(row - 3, 0), row + 4)
        columns = slice(max(column - 3, 0), column + 4)
        near = square[band, rows, columns].mean()
        found[band, row, column] = (near + square[band].mean()) / 2
    return found.repeat(scale, 1).repeat(scale, 2)


def merged_in_time(ahead, crossed, fine, base, coarse, scale):
    """One method's predictions of two pairs, merged.

    Args:
        ahead: For each base its prediction and own variance, (band, y, x).
        crossed: For each base its prediction of the other base date.
        fine: F of both pairs.
        base: C of both pairs.
        coarse: C2.
        scale: Coarse GSD / fine GSD.
    """
    weights = []
    for k, (_, variance) in enumerate(ahead):
        error = ((crossed[k] - fine[1 - k]) ** 2).mean(axis=(1, 2))
        across = (cells(base[1 - k] - base[k], scale) ** 2).mean(axis=(1, 2))
        rate = (error / across)[:, None, None]
        weights.append(1 / (variance + rate * nearby(coarse - base[k], scale)))
    total = sum(weights)
    return sum(w / total * p for w, (p, _) in zip(weights, ahead, strict=True))


def own_powers(difference):
    """u_i of D_ij = u_i + u_j for three methods or more, in closed form."""
    methods = len(difference)
    rows = difference.sum(axis=1)
    total = rows.sum() / (2 * (methods - 1))
    return np.maximum((rows - total) / (methods - 2), 0)


def noise_of(fine, coarse):
    """Noise of coarse pixels that have all eight neighbors, fitted by the fine ones."""
    design, wanted = [], []
    for row in range(1, fine.shape[0] - 1):
        for column in range(1, fine.shape[1] - 1):
            f = fine[row - 1 : row + 2, column - 1 : column + 2]
            sides = (f[0, 1] + f[1, 0] + f[1, 2] + f[2, 1]) / 4
            corners = (f[0, 0] + f[0, 2] + f[2, 0] + f[2, 2]) / 4
            design.append([f[1, 1], sides, corners, 1.0])
            wanted.append(coarse[row, column])
    (left,) = np.linalg.lstsq(np.array(design), np.array(wanted), rcond=None)[1]
    return left / (len(wanted) - 4)


def weighted(predictions, fine, base, coarse, scale):
    """Mean of predictions from one pair, weighted by precision, and the weights.

    Args:
        predictions: (method, band, y, x).
        fine: F1.
        base: C1.
        coarse: C2.
        scale: Coarse GSD / fine GSD.
    """
    weight = np.empty(predictions.shape[:2])
    for band in range(predictions.shape[1]):
        images = predictions[:, band].astype(float)
        difference = ((images[:, None] - images[None]) ** 2).mean(axis=(2, 3))
        residual = cells((coarse - base)[band] - (images - fine[band]), scale)
        wide = fine[band].astype(float), base[band].astype(float)
        noise = 2 * noise_of(*(cells(image, scale) for image in wide))
        shows = abs((residual**2).mean(axis=(1, 2)) - noise)
        variance = shows + own_powers(difference)
        precision = 1 / (variance + variance.mean() / 4)
        weight[:, band] = precision / precision.sum()
    return (weight[:, :, None, None] * predictions).sum(axis=0), weight
