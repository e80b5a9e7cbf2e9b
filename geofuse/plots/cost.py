"""What accuracy costs: error against seconds, and the methods that no other beats in both.

error │ A                       A, B and D are the front: of the others there is one that
      │     B     C             is at least as quick and at least as accurate
      │          D     E
      └────────────────── seconds per million pixels
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from geofuse.errors import ParameterError


class CostPoint(NamedTuple):
    """A method in the figure.

    Attributes:
        cost: Seconds per million pixels, above 0.
        error: Its error, the lower the better.
        parameters: How many numbers it has learned; 0 for a kernel that is written down.
    """

    cost: float
    error: float
    parameters: int = 0


def on_front(points: Sequence[CostPoint]) -> Bool[np.ndarray, " point"]:
    """Whether no other point is as good in both cost and error, and better in one.

    Args:
        points: Points; one with NaN is never on the front.

    >>> on_front([CostPoint(1, 3), CostPoint(2, 2), CostPoint(3, 2)]).tolist()
    [True, True, False]
    """
    found = np.zeros(len(points), bool)
    for number, point in enumerate(points):
        known = np.isfinite(point.cost) and np.isfinite(point.error)
        found[number] = known and not any(
            other.cost <= point.cost
            and other.error <= point.error
            and (other.cost < point.cost or other.error < point.error)
            for other in points
        )
    return found


def cost_figure(
    points: Mapping[str, CostPoint], *, error: str = "RMSE", title: str = ""
) -> Figure:
    """Draw error against cost, with the front as a line.

    Args:
        points: Methods by the name to show; those with NaN are left out.
        error: What the error is, with its unit.
        title: First line of the title.

    Raises:
        ParameterError: No method has both a cost above 0 and an error.
    """
    known = {
        name: point
        for name, point in points.items()
        if np.isfinite(point.error) and np.isfinite(point.cost) and point.cost > 0
    }
    if not known:
        raise ParameterError(
            f"expected a method with seconds above 0 and an error, found none among "
            f"{', '.join(points) or 'none'}"
        )
    front = on_front(list(known.values()))
    figure = Figure(figsize=(7, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    line = sorted(p for p, best in zip(known.values(), front, strict=True) if best)
    axis.step(
        [point.cost for point in line],
        [point.error for point in line],
        where="post",
        color="0.6",
        lw=1,
        zorder=1,
    )
    for (name, point), best in zip(known.items(), front, strict=True):
        learned = point.parameters > 0
        axis.plot(
            point.cost,
            point.error,
            marker="s" if learned else "o",
            ms=6,
            color="#b2182b" if best else "#67a9cf",
            ls="none",
            zorder=2,
        )
        words = f"{name} ({point.parameters:,} parameters)" if learned else name
        axis.annotate(
            words.replace("$", r"\$"),
            (point.cost, point.error),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7.5,
        )
    axis.set_xscale("log")
    for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        ticks(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.margins(x=0.2, y=0.12)
    axis.set(xlabel="seconds per million pixels", ylabel=error)
    axis.grid(visible=True, which="major", color="0.92", lw=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    told = (
        "red: no other method is both quicker and more accurate; squares have learned"
    )
    axis.set_title(f"{title}\n{told}" if title else told, fontsize=9, parse_math=False)
    return figure
