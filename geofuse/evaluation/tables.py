"""Scores as HTML tables that sort themselves (with the script of the page)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from geofuse.evaluation.result import Result
from geofuse.evaluation.wording import MISSING, number, safe, signed


class _Words(NamedTuple):
    """How a metric is shown: its label, its unit, and when it is good.

    The unit `*` is that of the images. Good is `low`, `high`, or near `zero`.
    """

    label: str
    unit: str
    good: str


_METRICS = {
    "rmse": _Words("RMSE", "*", "low"),
    "mae": _Words("MAE", "*", "low"),
    "bias": _Words("bias", "*", "zero"),
    "r": _Words("r", "", "high"),
    "ssim": _Words("SSIM", "", "high"),
    "ssim_unit": _Words("SSIM", "L = 1", "high"),
    "uiqi": _Words("UIQI", "", "high"),
    "sam": _Words("SAM", "rad", "low"),
    "ergas": _Words("ERGAS", "%", "low"),
    "edge": _Words("edge", "", "zero"),
    "lbp": _Words("LBP", "", "zero"),
}
_BAD: dict[str, Callable[[float], float]] = {
    "low": lambda value: value,
    "high": lambda value: -value,
    "zero": abs,
}


def method_scores(results: Sequence[Result], unit: str) -> str:
    """One row a method: all metrics, then the RMSE of each band."""
    metrics = [
        name
        for name in dict.fromkeys(str(m) for r in results for m in r.scores["metric"])
        if any(math.isfinite(result.value(name)) for result in results)
    ]
    columns = [_Column("method", text=True), _Column("kind", text=True)]
    blocks = [
        _numbers([r.value(name) for r in results], _words(name).good)
        for name in metrics
    ]
    columns += [
        _Column(_words(name).label, _unit(_words(name).unit, unit)) for name in metrics
    ]
    timed = [result.seconds for result in results if result.seconds is not None]
    if timed:
        columns.append(_Column("time", "s"))
        seconds = [math.nan if r.seconds is None else r.seconds for r in results]
        blocks.append(_numbers(seconds, ""))
    rows = [
        [
            _text(result.name),
            _text("trivial line" if result.trivial else "method"),
            *cells,
        ]
        for result, *cells in zip(results, *blocks, strict=True)
    ]
    parts = [
        "<p>Means over the bands where a band has a score of its own; the best of each "
        "column is marked. A name above a column sorts by it. Edge and LBP are below 0 "
        "where a product is too smooth, above 0 where it is too sharp.</p>",
        _table(columns, rows),
    ]
    bands = list(dict.fromkeys(band for result in results for band in result.bands()))
    if len(bands) > 1:
        values = [[result.value("rmse", band) for result in results] for band in bands]
        decimals = _decimals(min((x for v in values for x in v if x > 0), default=0.0))
        by_band = [_numbers(column, "low", decimals) for column in values]
        heads = [_Column("method", text=True)]
        heads += [_Column(band, unit) for band in bands]
        rows = [
            [_text(result.name), *cells]
            for result, *cells in zip(results, *by_band, strict=True)
        ]
        parts += ["<h3>RMSE by band</h3>", _table(heads, rows)]
    return "\n".join(parts)


def all_scores(results: Sequence[Result], unit: str) -> str:
    """Every score with its unit, its pixels, and what it depends on."""
    labels = ("method", "metric", "band")
    columns = [_Column(label, text=True) for label in labels]
    columns += [_Column("value"), _Column("unit", text=True), _Column("pixels")]
    columns += [_Column("detail", text=True)]
    rows = []
    for result in results:
        for metric, band, value, pixels, detail in result.scores[
            ["metric", "band", "value", "pixels", "detail"]
        ].itertuples(index=False):
            rows.append(
                [
                    _text(result.name),
                    _text(str(metric)),
                    _text(str(band)),
                    _Cell(number(value, digits=5), _sortable(value)),
                    _text(_unit(_words(str(metric)).unit, unit)),
                    _Cell(f"{int(pixels):,}", str(int(pixels))),
                    _text(str(detail)),
                ]
            )
    return (
        f"<details>\n<summary>{len(rows)} scores</summary>\n"
        f"{_table(columns, rows)}\n</details>"
    )


def badness(metric: str) -> Callable[[float], float]:
    """What is the lower the better a score is; of an unknown metric, the score.

    >>> badness("r")(0.9), badness("bias")(-0.1), badness("rmse")(0.2)
    (-0.9, 0.1, 0.2)
    """
    return _BAD.get(_words(metric).good, _BAD["low"])


class _Cell(NamedTuple):
    """A cell of a table: what is shown, and what is sorted by ('' is last)."""

    shown: str
    value: str
    best: bool = False


class _Column(NamedTuple):
    """The head of a column of numbers or of text."""

    label: str
    unit: str = ""
    text: bool = False


def _table(columns: Sequence[_Column], rows: Sequence[Sequence[_Cell]]) -> str:
    heads = []
    for column in columns:
        unit = f'<span class="unit">{safe(column.unit)}</span>' if column.unit else ""
        text = ' class="text"' if column.text else ""
        button = f'<button type="button">{safe(column.label)}</button>'
        heads.append(f'<th scope="col"{text}>{button}{unit}</th>')
    lines = []
    for row in rows:
        first, *others = row
        sort = f'data-value="{safe(first.value)}"'
        cells = [f'<th scope="row" {sort}>{safe(first.shown)}</th>']
        for column, cell in zip(columns[1:], others, strict=True):
            kind = " ".join(["text"] * column.text + ["best"] * cell.best)
            sort = f'data-value="{safe(cell.value)}"'
            attributes = f'class="{kind}" {sort}' if kind else sort
            cells.append(f"<td {attributes}>{safe(cell.shown)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(
        [
            '<div class="wide"><table>',
            f"<thead><tr>{''.join(heads)}</tr></thead>",
            "<tbody>",
            *lines,
            "</tbody></table></div>",
        ]
    )


def _numbers(
    values: Sequence[float], good: str, decimals: int | None = None
) -> list[_Cell]:
    """A column of numbers with the same decimals, the best one marked."""
    finite = [value for value in values if math.isfinite(value)]
    if decimals is None:
        decimals = _decimals(max(map(abs, finite), default=0.0))
    bad = _BAD.get(good)
    best = min(map(bad, finite)) if bad and len(finite) > 1 else None
    return [
        _Cell(
            signed(f"{value:.{decimals}f}") if math.isfinite(value) else MISSING,
            _sortable(value),
            best is not None and bad is not None and bad(value) == best,
        )
        for value in values
    ]


def _decimals(value: float) -> int:
    """How many decimals show three digits of a value."""
    return min(max(2 - math.floor(math.log10(value)), 0), 8) if value else 0


def _text(words: str) -> _Cell:
    return _Cell(words, words)


def _sortable(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def _words(metric: str) -> _Words:
    return _METRICS.get(metric, _Words(metric, "", ""))


def _unit(unit: str, of_images: str) -> str:
    return of_images if unit == "*" else unit
