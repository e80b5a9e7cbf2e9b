"""Is a method better than another, over all cases, or was it lucky?

    case_differences    ratio of RMSE on each case, with an interval: which blocks were seen
    differences         the same over all cases: which dates, and which of their blocks
    ranks               mean ranks, and the difference below which they say nothing
    holm                probabilities, corrected for how many questions were asked

Every difference is paired: both methods on the same pixels, and the same draws for both. An
effect is a ratio of RMSE with its interval; a probability says only whether the interval
leaves 1 out, and is corrected for the number of methods (Holm).

References: Holm (1979), A simple sequentially rejective multiple test procedure,
Scandinavian Journal of Statistics 6, 65-70. Demsar (2006), Statistical comparisons of
classifiers over multiple data sets, Journal of Machine Learning Research 7, 1-30: ranks and
the critical difference of Nemenyi.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import friedmanchisquare, studentized_range

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.evaluation.bootstrap import BlockErrors, rmse_ratio
from geofuse.evaluation.comparison import Comparison
from geofuse.evaluation.tables import badness

#: Resampled scenes that are computed at a time.
_AT_ONCE = 50


def holm(probabilities: Mapping[Any, float]) -> dict[Any, float]:
    """Probabilities corrected for how many there are.

    Args:
        probabilities: One a question; NaN where it has none, and then it does not count.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    asked = {key: p for key, p in probabilities.items() if p == p}
    corrected, least = dict(probabilities), 0.0
    for place, key in enumerate(sorted(asked, key=lambda key: asked[key])):
        least = max(least, min(asked[key] * (len(asked) - place), 1.0))
        corrected[key] = least
    return corrected


def case_differences(
    comparison: Comparison,
    against: str,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Ratios of RMSE to that of one method, case by case, with intervals over blocks.

    Args:
        comparison: What came of a comparison.
        against: Name of the method to compare with.
        level: Share of the resampled ratios within the interval.
        resamples: How many times blocks are drawn.
        seed: Of the draws.

    Returns:
        Columns `method`, `against`, `case`, those of `rmse_ratio`, and `p`, `p_holm`: the
        probability of a ratio of 1, corrected within each band over all rows.

    Raises:
        UnknownNameError: No case has scores of that method.
        ParameterError: `level` or `resamples` is out of range.
    """
    _check_known(comparison, against)
    tables = []
    for case, errors in comparison.errors.items():
        if against not in errors:
            continue
        for method, own in errors.items():
            if method == against:
                continue
            found = rmse_ratio(
                own, errors[against], level=level, resamples=resamples, seed=seed
            )
            p = [_probability(share, resamples) for share in found["better"]]
            tables.append(found.assign(method=method, against=against, case=case, p=p))
    if not tables:
        return pd.DataFrame(columns=["method", "against", "case", "band", "ratio"])
    table = pd.concat(tables, ignore_index=True)
    table["p_holm"] = np.nan
    for _, rows in table.groupby("band"):
        corrected = holm(dict(rows["p"]))
        table.loc[list(corrected), "p_holm"] = list(corrected.values())
    first = ["method", "against", "case"]
    return table[[*first, *(c for c in table.columns if c not in first)]]


def differences(
    comparison: Comparison,
    against: str,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Ratios of RMSE to that of one method over all cases, with intervals.

    The ratio is the geometric mean, over the cases that both methods have scores of, of the
    ratio of band-mean RMSE. Drawn with replacement are dates of a site, and blocks of each
    of their cases; with a single date blocks alone, and the interval holds for that date.

    Args:
        comparison: What came of a comparison.
        against: Name of the method to compare with.
        level: Share of the resampled ratios within the interval.
        resamples: How many times dates and blocks are drawn.
        seed: Of the draws.

    Returns:
        One row a method: `method`, `against`, `ratio` (below 1: less error), `low`, `high`,
        `p`, `p_holm`, `cases` and `dates`.

    Raises:
        UnknownNameError: No case has scores of that method.
        ParameterError: `level` or `resamples` is out of range.
    """
    _check_known(comparison, against)
    if not 0 < level < 1 or resamples < 1:
        raise ParameterError(
            f"expected a level between 0 and 1 and at least 1 resample, found "
            f"level={level}, resamples={resamples}"
        )
    dates = _dates_of(comparison.table)
    rows, probabilities = [], {}
    methods = dict.fromkeys(m for e in comparison.errors.values() for m in e)
    for method in methods:
        pairs = {
            case: (errors[method], errors[against])
            for case, errors in comparison.errors.items()
            if method in errors and against in errors
        }
        if method == against or not pairs:
            continue
        generator = np.random.default_rng(seed)
        found, drawn = _over_dates(pairs, dates, resamples, generator)
        known = drawn[np.isfinite(drawn)]
        tail = (1 - level) / 2
        low, high = (
            np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan,) * 2
        )
        better = float((known < 0).mean()) if len(known) else np.nan
        probabilities[method] = _probability(better, len(known))
        rows.append(
            {
                "method": method,
                "against": against,
                "ratio": float(np.exp(found)),
                "low": float(np.exp(low)),
                "high": float(np.exp(high)),
                "p": probabilities[method],
                "cases": len(pairs),
                "dates": len({dates[case] for case in pairs}),
            }
        )
    columns = ["method", "against", "ratio", "low", "high", "p", "cases", "dates"]
    table = pd.DataFrame(rows, columns=columns)
    corrected = holm(probabilities)
    table.insert(6, "p_holm", [corrected[method] for method in table["method"]])
    return table


@dataclass(frozen=True, eq=False)
class Ranks:
    """Mean ranks of methods over cases; 1 is the best.

    Attributes:
        mean: Method -> mean rank, the best first.
        critical_difference: Mean ranks nearer than this cannot be told apart (Nemenyi).
        p: Probability of such ranks if all methods were alike (Friedman); NaN with fewer
            than three methods or two cases.
        cases: Number of cases.
        left_out: Methods without a score on some case, which cannot be ranked.
    """

    mean: dict[str, float]
    critical_difference: float
    p: float
    cases: int
    left_out: tuple[str, ...]

    def alike(self) -> list[tuple[str, ...]]:
        """Largest groups of methods whose ranks cannot be told apart, best first."""
        names = list(self.mean)
        groups: list[tuple[str, ...]] = []
        for start, first in enumerate(names):
            reach = self.mean[first] + self.critical_difference
            group = tuple(name for name in names[start:] if self.mean[name] <= reach)
            if len(group) > 1 and not (groups and set(group) <= set(groups[-1])):
                groups.append(group)
        return groups


def ranks(table: pd.DataFrame, metric: str = "rmse", *, level: float = 0.95) -> Ranks:
    """Rank the methods of a comparison on each case, and average.

    A case counts once, with the mean over its bands: bands of one scene are no experiments
    of their own.

    Args:
        table: Of `compare`.
        metric: Name of a metric in it.
        level: Confidence of the critical difference.

    Raises:
        UnknownNameError: The table has no such metric.
        ParameterError: Fewer than two methods have scores on the same cases, or `level` is
            not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ParameterError(f"expected a level between 0 and 1, found {level}")
    wide = score_by_case(table, metric)
    complete = wide.dropna(axis="columns")
    count, cases = complete.shape[1], len(complete)
    left_out = tuple(str(name) for name in wide.columns.difference(complete.columns))
    if count < 2:
        raise ParameterError(
            f"expected two methods or more with a score on all {cases} cases, found "
            f"{count}; left out: {', '.join(left_out) or 'none'}"
        )
    worse = complete.map(badness(metric))
    mean = worse.rank(axis="columns").mean().sort_values(kind="stable")
    # Demsar (2006), eq. on page 11: q of the studentized range over the root of 2.
    quantile = float(studentized_range.ppf(level, count, np.inf)) / np.sqrt(2)
    difference = quantile * np.sqrt(count * (count + 1) / (6 * cases))
    p = np.nan
    if count > 2 and cases > 1:
        p = float(friedmanchisquare(*worse.to_numpy().T).pvalue)
    means = {str(name): float(rank) for name, rank in mean.items()}
    return Ranks(means, float(difference), p, cases, left_out)


def score_by_case(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Scores of whole cases: a row a case, a column a method, NaN where there is none.

    Args:
        table: Of `compare`.
        metric: Name of a metric in it; its mean over the bands, else its one number.

    Raises:
        UnknownNameError: The table has no such metric.
    """
    known = [str(name) for name in table["metric"].unique() if name]
    if metric not in known:
        raise UnknownNameError(
            f"expected a metric of the table, found {metric!r}; {did_you_mean(metric, known)}"
        )
    rows = table[(table["metric"] == metric) & (table["slice"] == "")]
    name = "mean" if (rows["band"] == "mean").any() else "all"
    wide = rows[rows["band"] == name].pivot(
        index="case", columns="method", values="value"
    )
    return wide.reindex(
        index=pd.unique(table["case"]), columns=pd.unique(table["method"])
    )


def _check_known(comparison: Comparison, against: str) -> None:
    methods = {m for errors in comparison.errors.values() for m in errors}
    if against not in methods:
        raise UnknownNameError(
            f"expected a method with scores to compare with, found {against!r}; "
            f"{did_you_mean(against, methods)}"
        )


def _probability(better: float, draws: int) -> float:
    """Two-sided, from the share of draws in which the first is better; never 0."""
    if better != better or not draws:
        return np.nan
    least = min(better, 1 - better) * draws
    return min(2 * (least + 1) / (draws + 1), 1.0)


def _dates_of(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    rows = table.drop_duplicates("case")
    return {
        str(case): (str(site), str(date))
        for case, site, date in zip(
            rows["case"], rows["site"], rows["date"], strict=True
        )
    }


def _over_dates(
    pairs: Mapping[str, tuple[BlockErrors, BlockErrors]],
    dates: Mapping[str, Any],
    resamples: int,
    generator: np.random.Generator,
) -> tuple[float, Float[np.ndarray, " resample"]]:
    """The mean logarithm of the ratio, found and resampled."""
    found, pools = {}, {}
    for case, (first, second) in pairs.items():
        found[case], pools[case] = _log_ratios(first, second, resamples, generator)
    groups: dict[Any, list[str]] = {}
    for case in pairs:
        groups.setdefault(dates[case], []).append(case)
    members = list(groups.values())
    drawn = generator.integers(len(members), size=(resamples, len(members)))
    total, count = np.zeros(resamples), np.zeros(resamples)
    for place in range(len(members)):
        for number, cases in enumerate(members):
            here = np.flatnonzero(drawn[:, place] == number)
            for case in cases:
                # Each copy of a date has blocks of its own.
                which = generator.integers(resamples, size=len(here))
                total[here] += pools[case][which]
                count[here] += 1
    return float(np.mean(list(found.values()))), total / count


def _log_ratios(
    first: BlockErrors,
    second: BlockErrors,
    resamples: int,
    generator: np.random.Generator,
) -> tuple[float, Float[np.ndarray, " resample"]]:
    """Logarithm of the ratio of band-mean RMSE, found and over resampled blocks."""
    used = first.pixels > 0
    squared = [errors.squared[:, used] for errors in (first, second)]
    blocks = int(used.sum())
    if not blocks:
        return np.nan, np.full(resamples, np.nan)
    found = _log_ratio([s.sum(axis=1)[None] for s in squared])
    drawn: list[np.ndarray] = []
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        draws = generator.multinomial(blocks, np.full(blocks, 1 / blocks), size)
        drawn.append(_log_ratio([draws @ s.T for s in squared]))
    return float(found[0]), np.concatenate(drawn)


def _log_ratio(sums: Sequence[np.ndarray]) -> Float[np.ndarray, " draw"]:
    roots = [np.sqrt(total).mean(axis=1) for total in sums]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(roots[0]) - np.log(roots[1])
