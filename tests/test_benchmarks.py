"""What the accuracy benchmark makes of its scores, on tables made by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import fusion
from benchmarks.cases import NamedCase, simulated_cases
from benchmarks.pretrain import scales_of, stretch_of
from benchmarks.programs import PROGRAMS, best_of_bands, best_program
from benchmarks.speed import networks
from geofuse.spatiotemporal import METHODS
from geofuse.spatiotemporal.baselines import CoarseChange, LinearInTime, Persistence
from geofuse.spatiotemporal.combine import PrecisionFusion
from geofuse.synthetic import simulate_case

CIA = "cia 10-08 11-02 > 10-17"
LGC = "lgc 11-26 > 12-28"


def table_of(rmse, case=CIA, site="cia"):
    """A table of RMSE by method and band, as the benchmark makes it."""
    rows = []
    for method, values in rmse.items():
        named = [*enumerate(values), ("mean", np.mean(values)), ("all", 9.0)]
        rows += [
            {"method": method, "case": case, "site": site, "band": str(band),
             "metric": "rmse", "value": value, "configuration": method}
            for band, value in named
        ]  # fmt: skip
    return pd.DataFrame(rows)


def test_there_is_a_simulated_suite_for_each_hard_thing():
    cases = list(simulated_cases(size=64, pairs=(1,)))
    names = [named.name for named in cases]
    for hard in (
        *("phenology", "abrupt change", "misregistration", "psf mismatch"),
        *("sensor bias", "clouds", "coarse noise"),
    ):
        assert f"{hard}, 1 pair" in names
    clouds = cases[names.index("clouds, 1 pair")].case.inputs
    assert np.isnan(clouds.pairs[0].fine).any()
    assert np.isnan(clouds.coarse).any()


def test_all_methods_are_compared_and_the_lines_are_among_them():
    for site in ("cia", "lgc", "simulated"):
        chosen = fusion.methods_for(site)
        assert set(METHODS) <= set(chosen)
        assert set(fusion.LINES) <= set(chosen)
        assert set(METHODS) <= set(fusion.methods_for(site, quick=True))


def test_wins_are_counted_over_the_bands_of_real_cases():
    real = table_of({"starfm": [2.0, 2.0], "fit-fc": [1.0, 3.0], "fsdaf": [1.0, 1.0]})
    other = table_of({"starfm": [2.0, 2.0], "fit-fc": [1.0, 1.0]}, LGC, "lgc")
    simulated = table_of({"starfm": [1.0], "fit-fc": [9.0]}, "clouds", "simulated")
    table = pd.concat([real, other, simulated])
    assert fusion.wins(table) == {"fit-fc": 0.75, "fsdaf": 1.0}


def test_a_method_is_compared_with_the_best_program_of_its_own():
    ours = table_of({"starfm": [0.0121, 0.0161, 0.0443], "fit-fc": [1.0] * 3}, LGC)
    found = fusion.against_programs(ours)
    assert found["starfm"] == {LGC: 1.0}
    assert best_program(LGC, "starfm").name == "C STARFM, 4 slices"
    assert set(found) == {"starfm", "fit-fc"}
    assert best_program(LGC, "persistence") is None


def test_the_bar_is_the_lowest_of_programs_and_lines_in_each_band():
    bar = best_of_bands(LGC)
    assert bar == (0.0098, 0.0135, 0.0356)
    table = table_of(
        {
            "band-line": [0.5 * bar[0], 1.0, 1.0],
            "all good": [0.4 * bar[0], 0.9 * bar[1], 0.9 * bar[2]],
            "good in two": [0.9 * bar[0], 0.1 * bar[1], 0.1 * bar[2]],
        },
        LGC,
    )
    found = fusion.against_the_best(table)[LGC]
    assert found["method"] == "all good"
    assert found["ratios"] == [0.8, 0.9, 0.9]
    assert found["in_every_band"]
    assert best_of_bands("no such case") == ()


def test_programs_have_all_bands_of_their_case():
    for program in PROGRAMS:
        assert len(program.rmse) == (3 if program.case == LGC else 6)
        assert program.source


@pytest.fixture(scope="module")
def outcome():
    case = simulate_case(32, pairs=1, scale=8, bands=("red", "nir"), clouds=0.1)
    methods = {
        "starfm": CoarseChange(),  # stands in, to be quick
        "persistence": Persistence(),
        "linear-in-time": LinearInTime(),
    }
    return fusion.compare(NamedCase("cia a > b", "cia", case, real=True), methods)


def test_a_case_gives_a_row_for_each_method_band_and_metric(outcome):
    table = pd.DataFrame(outcome.rows)
    assert set(table.method) == {"starfm", "persistence"}  # there is one pair
    assert {"rmse", "r", "ssim", "sam", "bias"} <= set(table.metric)
    assert not table.duplicated(["method", "case", "band", "metric"]).any()
    # All on the pixels that are valid in all methods.
    assert table[table.metric == "rmse"].pixels.nunique() == 1
    for method, errors in outcome.errors.items():
        rmse = np.sqrt(errors.squared.sum(axis=1) / errors.pixels.sum())
        rows = table[(table.method == method) & (table.metric == "rmse")]
        rows = rows.set_index("band").value[["red", "nir"]]
        np.testing.assert_allclose(rows, rmse, rtol=1e-6)


def test_any_two_methods_are_compared_with_an_interval(outcome):
    found = fusion.bootstrap(outcome)
    assert set(zip(found.method, found.against, strict=True)) == {
        ("persistence", "starfm")
    }
    mean = found[(found.method == "persistence") & (found.band == "mean")].iloc[0]
    assert mean.low <= mean.ratio <= mean.high
    told = fusion._as_intervals(found)
    assert told["persistence"]["cia a > b"] == pytest.approx(
        [mean.ratio, mean.low, mean.high], abs=1e-3
    )
    json.dumps(told)


def test_the_combination_is_compared_with_its_best_member():
    member = repr(PrecisionFusion().methods[0])
    table = table_of({"precision-fusion": [1.0], member: [2.0], "other": [0.1]})
    assert fusion.fusion_against_members(table) == {CIA: 0.5}


def test_networks_are_timed_beside_starfm_and_beside_all_of_their_experts():
    chosen = networks.methods()
    mixture = chosen["mixture_net"]
    assert tuple(chosen[f"expert {n}"] for n in range(1, 12)) == mixture.experts
    assert chosen["starfm"].radius == 25
    case = simulate_case(32, pairs=1, scale=8, bands=("red",))
    stand_ins = dict.fromkeys(
        ("starfm", "kernel_net", "mixture_net", "expert 1", "expert 2"), Persistence()
    )
    found = networks.compare(case.inputs, stand_ins, repeats=1)
    assert found["experts_seconds"] > 0
    for name in ("kernel_net_vs_starfm_time", "mixture_net_vs_experts_time"):
        assert np.isfinite(found[name])


def test_fusing_files_by_a_network_tells_its_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "NETWORKS", {"kernel_net": Persistence()})
    networks.make_files(tmp_path, 512)
    found = networks.fuse_files(tmp_path, "kernel_net", 256, 128)
    assert (tmp_path / "fused.tif").is_file()
    assert found["peak_mb"] >= found["baseline_mb"] > 0


def test_intervals_are_stretched_where_they_miss_by_more_than_chance():
    rng = np.random.default_rng(0)
    true = [np.abs(rng.normal(size=2000)) for _ in range(40)]
    assert stretch_of(true).factor == 1.0
    wide = stretch_of([0.5 * errors for errors in true])
    assert wide.factor == pytest.approx(0.5, abs=0.02)
    assert wide.coverage > 0.99
    # A case of many pixels counts no more than one of few.
    uneven = [*true, np.zeros(100_000)]
    assert stretch_of(uneven).coverage == pytest.approx(0.9, abs=0.01)


def test_a_new_card_tells_every_scale_of_its_cases():
    scales = scales_of(range(200))
    assert scales == tuple(sorted(scales))
    assert scales[0] == 4
    assert scales[-1] == 30
