"""Say in words what the numbers say: what won, in which bands, and by how much."""

import math
from collections.abc import Sequence

from geofuse.evaluation.result import Result
from geofuse.evaluation.wording import listed, number, or_infinite, percent


def verdict(
    results: Sequence[Result], *, pixels: int, unit: str = "reflectance"
) -> list[str]:
    """Say what the scores say.

    Args:
        results: What each method made of the scene.
        pixels: Number of pixels of the scene.
        unit: Unit of the images.

    Returns:
        Paragraphs of plain text; the first is the verdict.
    """
    scored = [result for result in results if math.isfinite(result.value("rmse"))]
    if not scored:
        return ["Nothing could be scored: no pixel is valid in all products."]
    ranked = sorted(scored, key=lambda result: result.value("rmse"))
    best = ranked[0]
    trivial = [result for result in ranked if result.trivial]
    others = [result for result in ranked if not result.trivial]
    lines = [_winner(best, trivial, others, unit), _best_by_band(best, scored)]
    if trivial:
        reached = [
            f"{result.name} {number(result.value('rmse'))}" for result in trivial
        ]
        lines.append(f"RMSE that the trivial lines reached: {', '.join(reached)}.")
    lines.append(_character(best))
    rows = best.scores[best.scores["metric"] == "rmse"]
    counted = int(rows["pixels"].min())
    lines.append(
        f"Scored on {counted:,} of {pixels:,} pixels ({percent(counted / pixels)}): "
        "those valid in the truth and in all products."
    )
    return [line for line in lines if line]


def _winner(
    best: Result, trivial: list[Result], others: list[Result], unit: str
) -> str:
    lowest = best.value("rmse")
    reached = f"an RMSE of {number(lowest)} ({unit}, mean of the bands)"
    if not best.trivial:
        text = f"{best.name} comes nearest to the truth, with {reached}"
        if not trivial:
            return f"{text}."
        line = trivial[0]
        by = percent(1 - lowest / line.value("rmse") if lowest else 1.0)
        return (
            f"{text}: {by} less than the best trivial line, {line.name}, with "
            f"{number(line.value('rmse'))}."
        )
    text = f"{best.name}, a trivial line, comes nearest to the truth, with {reached}"
    if not others or lowest == 0:
        return f"{text}."
    method = others[0]
    by = percent(method.value("rmse") / lowest - 1)
    return (
        f"No method beats the trivial lines here: {text}. The best other method, "
        f"{method.name}, has {number(method.value('rmse'))}, {by} more."
    )


def _best_by_band(best: Result, scored: list[Result]) -> str:
    """In which bands the best one is the best."""
    winners = {
        band: min(scored, key=lambda result: or_infinite(result.value("rmse", band)))
        for band in best.bands()
    }
    if len(winners) < 2 or len(scored) < 2:
        return ""
    won = [band for band, winner in winners.items() if winner is best]
    if len(won) == len(winners):
        return f"It is the best in each band: {listed(won)}."
    lost = []
    for other in scored:
        where = [band for band, winner in winners.items() if winner is other]
        if where and other is not best:
            pairs = [
                f"{number(other.value('rmse', band))} against "
                f"{number(best.value('rmse', band))}"
                for band in where
            ]
            lost.append(f"{other.name} in {listed(where)} ({', '.join(pairs)})")
    if not won:
        return f"Yet in no band is it the best; better are {listed(lost)}."
    verb = "is" if len(lost) == 1 else "are"
    return f"It is the best in {listed(won)}; better {verb} {listed(lost)}."


def _character(result: Result) -> str:
    """Too high or too low, too smooth or too sharp."""
    parts = []
    bands = {band: result.value("rmse", band) for band in result.bands()}
    finite = {band: value for band, value in bands.items() if math.isfinite(value)}
    if len(finite) > 1:
        worst = max(finite, key=lambda band: finite[band])
        parts.append(f"errs most in {worst} (RMSE {number(finite[worst])})")
    bias = result.value("bias")
    if math.isfinite(bias):
        side = "low" if bias < 0 else "high"
        parts.append(f"is too {side} by {number(abs(bias), digits=2)} on average")
    edge = result.value("edge")
    if math.isfinite(edge):
        smooth = "smoother" if edge < 0 else "sharper"
        parts.append(f"is {smooth} than the truth (edge {number(edge, digits=2)})")
    return f"{result.name} {listed(parts)}." if parts else ""
