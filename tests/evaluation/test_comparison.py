"""What is fair, reproducible and hard to break about a comparison."""

import csv
import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typing_extensions import override

from geofuse.errors import LeakError, ParameterError, UnknownNameError
from geofuse.evaluation import comparison
from geofuse.evaluation.comparison import MEASURED, compare, comparison_of
from geofuse.evaluation.metrics import RMSE, score
from geofuse.evaluation.outside import OutsideMethod
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.spatiotemporal.baselines import (
    BandLine,
    CoarseChange,
    LinearInTime,
    Persistence,
)
from geofuse.synthetic import simulate_case
from tests.training.tiny_method import TinyLine


def case_of(seed, **options):
    return simulate_case(48, bands=("red", "nir"), scale=8, seed=seed, **options)


@pytest.fixture(scope="module")
def cases():
    return {"farmland": case_of(0), "clouds > city": case_of(1, clouds=0.2)}


SITES = {"farmland": "a", "clouds > city": "b", "learned": "c", "held": "d"}


@dataclass(frozen=True)
class Given(OutsideMethod):
    """Another program, whose image is made by a function of the inputs."""

    make: object = None
    state_is: str = ""
    calls: ClassVar[list] = []

    @override
    def image(self, case, inputs, folder):
        self.calls.append(case)
        return self.make(case, inputs)

    @override
    def state(self, case, inputs):
        return self.state_is


def base_of(case, inputs):
    return inputs.pairs[0].fine


def values_of(table):
    return table.drop(columns=list(MEASURED))


def test_every_method_case_band_and_metric_has_a_row(cases):
    table = compare({"line": BandLine()}, test=cases, metrics=["rmse", "sam"])
    found = table[table.metric == "rmse"]
    assert set(found.method) == {"line", "persistence", "coarse-change"}
    assert set(found.band) == {"red", "nir", "mean", "all"}
    assert len(found) == 3 * 2 * 4
    assert set(table.metric) == {"rmse", "sam"}
    for column in ("seed", "data", "commit", "source", "versions", "machine", "date"):
        assert table[column].notna().all()
    assert (table.error == "").all()
    assert (table.lag.abs() == 32).all()
    assert (table.predict_seconds > 0).all()
    assert table.data.nunique() == 2


def test_a_baseline_that_is_there_already_is_not_added_again(cases):
    methods = {"base": Persistence(), "bicubic": CoarseChange(upsample="bicubic")}
    table = compare(methods, test=cases, metrics=["mae"])
    assert set(table.method) == {"base", "bicubic"}


def test_all_methods_are_scored_on_the_pixels_valid_in_all(cases):
    case = cases["farmland"]

    def half(name, inputs):
        image = inputs.pairs[0].fine.copy()
        image[:, :24] = np.nan
        return image

    table = compare({"half": Given(half)}, test={"farmland": case}, metrics=["rmse"])
    assert set(table.pixels) == {48 * 24}
    coverage = table.groupby("method").coverage.first()
    assert coverage["half"] == 0.5
    assert coverage["persistence"] == 1
    below = case.reference.isel(band=0, drop=True).notnull().copy()
    below[:24] = False
    expected = score(
        case.inputs.pairs[0].fine, case.reference, metrics=["rmse"], valid=below
    )
    for name in ("half", "persistence"):
        found = table[table.method == name].set_index("band").value
        np.testing.assert_array_equal(found, expected.set_index("band").value)


def test_nothing_is_clipped(cases):
    far = Given(lambda name, inputs: inputs.pairs[0].fine * 0 + 7)
    one = {"farmland": cases["farmland"]}
    table = compare({"far": far}, test=one, metrics=["rmse"])
    assert (table[table.method == "far"].value > 6).all()


def test_a_method_that_fails_on_one_case_has_a_row_that_says_so(cases):
    def fails(name, inputs):
        if name == "farmland":
            raise RuntimeError("out\nof luck")
        return inputs.pairs[0].fine

    table = compare({"other": Given(fails)}, test=cases, metrics=["rmse"])
    failed = table[table.error != ""]
    assert list(failed.method) == ["other"]
    assert list(failed.case) == ["farmland"]
    assert failed.error.iloc[0] == "RuntimeError: out of luck"
    assert np.isnan(failed.value.iloc[0])
    worked = table[(table.error == "") & (table.method == "other")]
    assert set(worked.case) == {"clouds > city"}
    assert set(table[table.method == "persistence"].case) == set(cases)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda n, i: i.pairs[0].fine[:, 1:], "GridMismatchError"),
        (lambda n, i: i.pairs[0].fine[:1], "BandMismatchError"),
        (lambda n, i: i.pairs[0].fine * np.nan, "no valid pixel"),
    ],
)
def test_a_prediction_that_does_not_fit_takes_no_pixels_from_others(cases, make, error):
    one = {"farmland": cases["farmland"]}
    table = compare({"odd": Given(make)}, test=one, metrics=["rmse"])
    assert table[table.method == "odd"].error.iloc[0].startswith(error)
    others = table[table.method != "odd"]
    assert (others.pixels == 48 * 48).all()


def test_a_method_that_needs_more_pairs_says_so(cases):
    one = {"farmland": cases["farmland"]}
    table = compare({"two": LinearInTime()}, test=one, metrics=["rmse"])
    assert "TooFewPairsError" in table[table.method == "two"].error.iloc[0]


def test_a_case_without_a_valid_reference_has_rows_and_the_others_go_on(cases):
    case = cases["farmland"]
    empty = FusionCase(case.inputs, case.reference * np.nan)
    found = compare(
        {"line": BandLine()}, test={"empty": empty, **cases}, metrics=["rmse"]
    )
    assert found[found.case == "empty"].error.str.contains("valid pixels").all()
    assert (found[found.case != "empty"].error == "").all()


def test_bands_in_another_order_are_put_in_order(cases):
    one = {"farmland": cases["farmland"]}
    turned = Given(lambda n, i: i.pairs[0].fine[::-1])
    table = compare({"turned": turned}, test=one, metrics=["rmse"])
    values = [table[table.method == m].value for m in ("turned", "persistence")]
    np.testing.assert_array_equal(*values)


def test_the_same_seed_gives_the_same_table_to_the_bit(cases, tmp_path):
    methods = {"line": BandLine(), "learned": TinyLine()}
    train = {"learned": case_of(7)}
    call = dict(train=train, test=cases, sites=SITES, seed=3, metrics=["rmse", "r"])
    tables = [compare(methods, **call, folder=f) for f in (None, tmp_path / "a" / "b")]
    tables.append(compare(methods, **call, workers=2, warm=False))
    tables.append(compare(methods, **call, folder=tmp_path / "a" / "b"))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(
            values_of(tables[0]), values_of(table), check_exact=True
        )
    with (tmp_path / "a" / "b" / "table.csv").open() as file:
        written = [float(row["value"]) for row in csv.DictReader(file)]
    np.testing.assert_array_equal(written, tables[0].value)
    other = compare(methods, **{**call, "seed": 4})
    learned = tables[0].method == "learned"
    assert (other[learned].value != tables[0][learned].value).any()
    assert (tables[0][learned].parameters == 4).all()
    assert (tables[0][learned].fit_seconds > 0).all()


def test_an_interrupted_run_continues_where_it_was(cases, tmp_path):
    def stops(name, inputs):
        if name == "clouds > city" and stop:
            raise KeyboardInterrupt
        return inputs.pairs[0].fine

    method = Given(stops)
    Given.calls.clear()
    stop = True
    with pytest.raises(KeyboardInterrupt):
        compare({"other": method}, test=cases, metrics=["rmse"], folder=tmp_path)
    assert Given.calls == ["farmland", "clouds > city"]
    stop = False
    table = compare({"other": method}, test=cases, metrics=["rmse"], folder=tmp_path)
    assert Given.calls == ["farmland", "clouds > city", "clouds > city"]
    assert set(table.case) == set(cases)
    assert not list(tmp_path.glob(".predictions*"))


def test_what_is_done_is_done_again_when_it_depends_on_something_else(cases, tmp_path):
    one = {"farmland": cases["farmland"]}

    def run(*, test=one, metrics=("rmse",), state="", seed=0):
        Given.calls.clear()
        compare(
            {"other": Given(base_of, state)},
            test=test,
            metrics=metrics,
            seed=seed,
            folder=tmp_path,
        )
        return len(Given.calls)

    assert run() == 1
    assert run() == 0
    assert run(metrics=("mae",)) == 1
    assert run(state="another file") == 1
    assert run(seed=1) == 1
    changed = one["farmland"].reference.copy()
    changed[0, 0, 0] += 0.1
    other = FusionCase(one["farmland"].inputs, changed)
    assert run(test={"farmland": other}, seed=1) == 1
    (kept,) = (tmp_path / "cases").glob("*.json")
    kept.write_text(kept.read_text()[:-40])
    assert run(test={"farmland": other}, seed=1) == 1
    assert run(test={"farmland": other}, seed=1) == 0


def test_a_fitted_method_is_kept_and_not_fitted_again(cases, tmp_path, monkeypatch):
    from geofuse.spatiotemporal import ALL_METHODS

    monkeypatch.setitem(ALL_METHODS, "tiny-line", TinyLine)
    call = dict(train={"learned": case_of(7)}, sites=SITES, metrics=["rmse"])
    first = {"farmland": cases["farmland"]}
    before = compare({"tiny": TinyLine()}, test=first, folder=tmp_path, **call)

    def never(self, cases, *, seed=0):
        raise AssertionError

    monkeypatch.setattr(TinyLine, "fit", never)
    after = compare({"tiny": TinyLine()}, test=cases, folder=tmp_path, **call)
    assert (after.error == "").all()
    seconds = [t[t.method == "tiny"].fit_seconds.iloc[0] for t in (before, after)]
    assert seconds[0] == seconds[1]


def test_a_method_whose_fitting_fails_says_so_in_its_rows(cases, monkeypatch):
    def fails(self, cases, *, seed=0):
        raise ValueError("no luck")

    monkeypatch.setattr(TinyLine, "fit", fails)
    table = compare(
        {"tiny": TinyLine()},
        train={"learned": case_of(7)},
        test=cases,
        sites=SITES,
        metrics=["rmse"],
    )
    errors = table[table.method == "tiny"].error
    assert list(errors) == [
        "NotFittedError: fitting failed: ValueError: no luck"
    ] * len(cases)


def test_methods_that_are_to_stay_as_they_are_are_not_fitted(cases):
    table = compare(
        {"tiny": TinyLine()},
        train={"learned": case_of(7)},
        test=cases,
        sites=SITES,
        metrics=["rmse"],
        as_they_are=["tiny"],
    )
    assert table[table.method == "tiny"].error.str.contains("expected a fitted").all()


def test_validation_cases_end_a_training_and_are_not_learned_from(cases, monkeypatch):
    from geofuse.training import holdout

    seen = {}

    def fit(self, cases, *, seed=0):
        held = holdout.held_out(cases)
        seen["learning"], seen["validation"] = held
        return self

    monkeypatch.setattr(TinyLine, "fit", fit)
    train, held = {"learned": case_of(7)}, {"held": case_of(8)}
    compare(
        {"tiny": TinyLine()},
        train=train,
        validation=held,
        test=cases,
        sites=SITES,
        metrics=["rmse"],
    )
    assert seen["learning"] == [train["learned"]]
    assert seen["validation"] == [held["held"]]


def test_a_reference_never_reaches_a_method(cases):
    seen = []

    def looks(name, inputs):
        seen.append(inputs)
        return inputs.pairs[0].fine

    compare({"other": Given(looks)}, test=cases, metrics=["rmse"])
    assert all(isinstance(inputs, FusionInputs) for inputs in seen)


def test_a_leak_stops_the_run(cases):
    with pytest.raises(LeakError, match="copied: reference of train case"):
        compare(
            {"line": BandLine()},
            train={"learned": cases["farmland"]},
            test=cases,
            sites=SITES,
        )


def test_the_predictions_can_be_looked_at_before_they_are_gone(cases):
    shown = {}

    def look(name, case, images, table):
        shown[name] = {k: v.compute() for k, v in images.items()}, len(table)

    compare({"line": BandLine()}, test=cases, metrics=["rmse"], look=look)
    assert set(shown) == set(cases)
    images, rows = shown["farmland"]
    assert rows == 3 * 4
    base = cases["farmland"].inputs.pairs[0].fine
    np.testing.assert_array_equal(images["persistence"], base)


def test_slices_are_scored_as_groups(cases):
    def halves(case):
        labels = case.reference.isel(band=0, drop=True).copy()
        labels = labels.drop_vars("time") * 0
        labels[:24] = 1
        return labels.astype(int)

    one = {"farmland": cases["farmland"]}
    table = compare(
        {"line": BandLine()}, test=one, metrics=["mae"], slices={"halves": halves}
    )
    line = table[(table.method == "line") & (table.band == "red")]
    whole = line[line.slice == ""].value.iloc[0]
    parts = line[line.slice == "halves"]
    assert list(parts.group) == [0, 1]
    assert parts.value.mean() == pytest.approx(whole)


def test_errors_by_block_add_up_to_the_table(cases):
    found = comparison_of({"line": BandLine()}, test=cases, metrics=[RMSE])
    errors = found.errors["farmland"]["line"]
    rmse = np.sqrt(errors.squared.sum(axis=1) / errors.pixels.sum())
    rows = found.table.query("case == 'farmland' and method == 'line'")
    np.testing.assert_allclose(rows.set_index("band").value[["red", "nir"]], rmse)


def test_images_may_be_lazy(cases):
    def lazy(image):
        return image.chunk({"band": 1, "y": 20, "x": 17})

    case = cases["farmland"]
    pairs = [Pair(lazy(p.fine), lazy(p.coarse)) for p in case.inputs.pairs]
    inputs = FusionInputs(pairs, lazy(case.inputs.coarse), case.inputs.scale)
    chunked = FusionCase(inputs, lazy(case.reference))
    tables = [
        compare({"line": BandLine()}, test={"farmland": c}, metrics=["rmse", "ssim"])
        for c in (case, chunked)
    ]
    pd.testing.assert_frame_equal(*map(values_of, tables), check_exact=True)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"methods": {}}, ParameterError, "at least one method"),
        ({"test": {}}, ParameterError, "at least one test case"),
        ({"metrics": []}, ParameterError, "at least one metric"),
        ({"metrics": ["rmsee"]}, UnknownNameError, "did you mean 'rmse'"),
        ({"seed": -1}, ParameterError, "seed of at least 0"),
        ({"workers": 0}, ParameterError, "at least 1 worker"),
        ({"as_they_are": ["lin"]}, UnknownNameError, "did you mean 'line'"),
        ({"methods": {"persistence": BandLine()}}, ParameterError, "something else"),
    ],
)
def test_bad_calls_are_refused_at_the_door(cases, change, error, match):
    call = {"methods": {"line": BandLine()}, "test": cases, **change}
    with pytest.raises(error, match=match):
        comparison_of(call.pop("methods"), **call)


def test_fewer_cases_run_side_by_side_where_memory_is_short(cases, monkeypatch):
    monkeypatch.setattr(comparison, "available_mb", lambda: 0.5)
    assert comparison.affordable({"line": BandLine()}, cases) == 1
    monkeypatch.setattr(comparison, "available_mb", lambda: 1e6)
    assert comparison.affordable({"line": BandLine()}, cases) > 100
    monkeypatch.setattr(comparison, "available_mb", lambda: float("nan"))
    assert comparison.affordable({"line": BandLine()}, cases) == 2


def test_the_fields_of_a_method_are_part_of_its_rows(cases):
    one = {"farmland": cases["farmland"]}
    method = dataclasses.replace(CoarseChange(), upsample="bicubic")
    table = compare({"bicubic": method}, test=one, metrics=["rmse"])
    assert repr(method) in set(table.configuration)
    assert isinstance(table, pd.DataFrame)
    assert isinstance(cases["farmland"].reference, xr.DataArray)
