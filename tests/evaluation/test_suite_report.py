"""A row a method, the front of cost and error, and a page that says what the table says."""

import numpy as np
import pandas as pd
import pytest

from geofuse.errors import ParameterError, UnknownNameError
from geofuse.evaluation.suite_report import by_method, cost_points, suite_page
from geofuse.plots import CostPoint, cost_figure, png
from geofuse.plots.cost import on_front

NAN = float("nan")


def table_of(scores, metric="rmse"):
    """Rows of whole cases: case -> method -> (score, seconds); None: it failed."""
    rows = []
    for case, methods in scores.items():
        for method, found in methods.items():
            value, seconds = found or (NAN, NAN)
            rows.append(
                {
                    **{"method": method, "case": case, "site": "", "date": case},
                    **{"slice": "", "group": 0, "value": value, "fit_seconds": NAN},
                    "band": "mean" if found else "",
                    "metric": metric if found else "",
                    "coverage": 1.0 if found else NAN,
                    "error": "" if found else "TooFewPairsError: found | <1>",
                    "seconds_per_mpx": seconds,
                    "peak_mb": 2.0,
                    "parameters": 10 * (method == "net"),
                    "trivial": method == "line",
                    **dict.fromkeys(("commit", "source", "python"), "x"),
                    **{"versions": "v", "machine": "m", "seed": 0, "data": f"d{case}"},
                }
            )
    return pd.DataFrame(rows)


SCORES = {
    "1": {"net": (1.0, 9.0), "line": (2.0, 1.0), "slow": (3.0, 99.0), "two": None},
    "2": {
        "net": (2.0, 7.0),
        "line": (3.0, 1.0),
        "slow": (2.5, 90.0),
        "two": (0.1, 1.0),
    },
}


def test_there_is_a_row_a_method_the_best_first():
    found = by_method(table_of(SCORES)).set_index("method")
    assert list(found.index) == ["net", "line", "slow", "two"]
    assert found.rmse["net"] == 1.5
    assert found.seconds_per_mpx["net"] == 8.0
    assert found.parameters["net"] == 10
    assert list(found["front"]) == [True, True, False, False]
    assert (found.cases["two"], found.failed["two"]) == (1, 1)
    # It worked on the easier case alone, so that its mean would not compare.
    assert np.isnan(found.rmse["two"])


def test_the_page_says_what_won_and_what_failed():
    text = suite_page(table_of(SCORES), command="geofuse benchmark", about=["Two."])
    assert "Best by rmse: net, 1.50. The best trivial line is line, 2.50." in text
    assert "line (trivial)" in text
    assert "TooFewPairsError: found \\| &lt;1>" in text
    assert "data of 2: d2" in text
    lost = {"1": {"net": (3.0, 1.0), "line": (2.0, 1.0)}}
    assert "no method beats it here" in suite_page(table_of(lost))
    with pytest.raises(UnknownNameError):
        suite_page(table_of(SCORES), metric="r")


def test_where_high_is_good_the_highest_is_best():
    found = by_method(table_of({"1": {"a": (0.5, 1), "b": (0.9, 2)}}, "r"), "r")
    assert list(found.method) == ["b", "a"]
    assert cost_points(found, "r")["b"].error == -0.9


def test_the_front_holds_who_is_beaten_by_nobody():
    points = [CostPoint(1, 5), CostPoint(2, 5), CostPoint(2, 1), CostPoint(NAN, 0)]
    assert on_front(points).tolist() == [True, False, True, False]
    assert on_front([CostPoint(1, 1), CostPoint(1, 1)]).tolist() == [True, True]
    assert on_front([]).tolist() == []


def test_the_figure_is_drawn_and_needs_something_to_draw():
    points = {"net $x_": CostPoint(1, 5, 1000), "line": CostPoint(2, 6)}
    points["failed"] = CostPoint(NAN, NAN)
    figure = cost_figure(points, title="a $b_ title")
    assert png(figure).startswith(b"\x89PNG")
    assert png(cost_figure({"one": CostPoint(1, 1)})).startswith(b"\x89PNG")
    with pytest.raises(ParameterError, match="found none among failed"):
        cost_figure({"failed": CostPoint(NAN, NAN)})
