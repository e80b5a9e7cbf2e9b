"""Curves through the images of one pixel, by dense least squares in float64."""

import numpy as np


def harmonic(days, values, wanted, *, first, harmonics, ridge):
    """A mean and waves of a year, with a penalty of ridge k² on the k-th wave."""

    def waves(at):
        angle = 2 * np.pi * (np.asarray(at, float) - first) / 365.25
        columns = [np.ones_like(angle)]
        for k in range(1, harmonics + 1):
            columns += [np.cos(k * angle), np.sin(k * angle)]
        return np.stack(columns, 1)

    valid = np.isfinite(values)
    rows = waves(np.asarray(days)[valid])
    penalty = np.diag(
        [0.0, *(ridge * k**2 for k in range(1, harmonics + 1) for _ in "ab")]
    )
    weights = np.linalg.solve(
        rows.T @ rows + penalty, rows.T @ np.asarray(values)[valid]
    )
    return waves(wanted) @ weights


def whittaker(days, values, wanted, *, first, last, smoothness, step):
    """Straight pieces of `step` days, close to the values and with little bending."""
    nodes = first + step * np.arange(max(int(np.ceil((last - first) / step)) + 1, 3))

    def pieces(at):
        rows = [np.interp(at, nodes, unit) for unit in np.eye(len(nodes))]
        return np.stack(rows, 1)

    valid = np.isfinite(values)
    rows = pieces(np.asarray(days)[valid])
    bending = np.diff(np.eye(len(nodes)), n=2, axis=0)
    slopes = np.diff(np.eye(len(nodes)), axis=0)
    weight = smoothness / step**3
    matrix = rows.T @ rows + weight * (bending.T @ bending + 1e-5 * slopes.T @ slopes)
    return pieces(wanted) @ np.linalg.solve(matrix, rows.T @ np.asarray(values)[valid])
