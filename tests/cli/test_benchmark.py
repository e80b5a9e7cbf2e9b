"""Comparing methods on files: tables, a page, a picture; and what can go wrong."""

import argparse
import csv
import sys

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.cli import benchmark
from geofuse.evaluation.outside import file_name
from geofuse.spatiotemporal import ALL_METHODS
from geofuse.synthetic import simulate_case
from tests.conftest import GRID
from tests.training.tiny_method import TinyLine

DAYS = ("2021-05-01", "2021-06-01", "2021-07-01", "2021-08-01")
LOOK = (
    *("--fine-sensor", "gain=1e-4,nodata=0", "--coarse-sensor", "gain=1e-4"),
    *("--bands", "red,nir"),
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(ALL_METHODS, "tiny-line", TinyLine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fine and coarse files of four days, and a table of two cases."""
    folder = tmp_path_factory.mktemp("cases")
    case = simulate_case(48, bands=("red", "nir"), scale=8, pairs=3, seed=2)
    images = [(p.fine, p.coarse) for p in case.inputs.pairs]
    images.append((case.reference, case.inputs.coarse))
    for day, (fine, coarse) in zip(DAYS, images, strict=True):
        write(folder / f"fine_{day}.tif", fine.values, 1)
        write(folder / f"coarse_{day}.tif", coarse.values[:, ::8, ::8], 8)
    rows = [
        f"{kind},{kind}_{day}.tif,{day}" for kind in ("fine", "coarse") for day in DAYS
    ]
    (folder / "series.csv").write_text("\n".join(["kind,path,date", *rows]))
    table(folder, "cases.csv", (0, 2), (3, 1))
    table(folder, "train.csv", (0, 3))
    return folder


def write(path, values, scale):
    values = np.round(np.clip(values, 1e-4, 1) * 1e4).astype("uint16")
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs="EPSG:32633",
        transform=GRID * Affine.scale(scale),
        count=2,
        height=values.shape[1],
        width=values.shape[2],
        dtype="uint16",
    ) as dataset:
        dataset.write(values)
        dataset.descriptions = ("red", "nir")


def table(folder, name, *cases):
    rows = [
        f"fine_{DAYS[a]}.tif,coarse_{DAYS[a]}.tif,{DAYS[a]},"
        f"coarse_{DAYS[b]}.tif,fine_{DAYS[b]}.tif,{DAYS[b]},here"
        for a, b in cases
    ]
    first = "fine_base,coarse_base,base_date,coarse,fine,date,site"
    (folder / name).write_text("\n".join([first, *rows]) + "\n")


def words(folder, out, *more, methods="band-line", cases="cases.csv", pages=False):
    given = ["benchmark", "--cases", folder / cases, "--methods", methods, "-o", out]
    return [*given, *LOOK, *([] if pages else ["--no-pages"]), *more]


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


NAMES = ("here 2021-05-01 > 2021-07-01", "here 2021-08-01 > 2021-06-01")


def test_a_table_of_files_becomes_tables_a_page_and_a_picture(
    geofuse_command, folder, tmp_path
):
    out = tmp_path / "new" / "results"
    code, said, error = geofuse_command(
        *words(folder, out, "--slices", "change", "--metrics", "rmse,r", pages=True)
    )
    assert (code, error) == (0, "")
    rows = rows_of(out / "table.csv")
    assert {row["case"] for row in rows} == set(NAMES)
    assert {row["site"] for row in rows} == {"here"}
    assert {row["metric"] for row in rows} == {"rmse", "r"}
    assert {row["slice"] for row in rows} == {"", "change"}
    names = {row["method"] for row in rows}
    assert names == {"band-line", "persistence", "coarse-change"}
    assert "band-line" in said
    assert str(out / "report.md") in said
    report = (out / "report.md").read_text()
    assert "geofuse benchmark --cases" in report
    assert "## Ratio of RMSE to that of persistence" in report
    methods = rows_of(out / "methods.csv")
    assert {row["method"] for row in methods} == names
    assert any(row["front"] == "True" for row in methods)
    assert len(rows_of(out / "differences.csv")) == 2
    assert (out / "cost.png").read_bytes().startswith(b"\x89PNG")
    for name in NAMES:
        page = (out / "pages" / f"{file_name(name)}.html").read_text()
        assert "band-line" in page


def test_the_same_command_continues_and_changes_nothing(
    geofuse_command, folder, tmp_path, monkeypatch
):
    command = words(folder, tmp_path / "out", "--metrics", "rmse")
    geofuse_command(*command)
    before = (tmp_path / "out" / "table.csv").read_bytes()
    from geofuse.evaluation import comparison

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(comparison, "score_case", never)
    code, _, _ = geofuse_command(*command)
    assert code == 0
    assert (tmp_path / "out" / "table.csv").read_bytes() == before


def test_methods_that_learn_are_fitted_on_the_training_table(
    geofuse_command, folder, tmp_path
):
    out = tmp_path / "out"
    more = ("--train", folder / "train.csv", "--metrics", "rmse")
    code, _, _ = geofuse_command(*words(folder, out, *more, methods="tiny-line"))
    assert code == 0
    rows = [row for row in rows_of(out / "table.csv") if row["method"] == "tiny-line"]
    assert {row["parameters"] for row in rows} == {"4"}
    assert all(float(row["fit_seconds"]) > 0 for row in rows)


def test_a_leak_ends_the_command_with_one_line(geofuse_command, folder, tmp_path):
    more = ("--train", folder / "cases.csv")
    code, _, error = geofuse_command(*words(folder, tmp_path / "out", *more))
    assert code == 2
    assert "copied: reference of train case" in error
    assert len(error.splitlines()) == 1


def test_a_protocol_divides_the_cases(geofuse_command, folder, tmp_path):
    out = tmp_path / "out"
    more = ("--protocol", "one-pair-consecutive", "--metrics", "rmse")
    code, _, error = geofuse_command(
        *words(folder, out, *more, methods="tiny-line", cases="series.csv")
    )
    assert code == 0, error
    rows = rows_of(out / "table.csv")
    assert {row["case"] for row in rows} == {"2021-07-01 > 2021-08-01"}
    assert {row["fold"] for row in rows} == {"from 2021-08-01"}


def test_other_programs_take_part(geofuse_command, folder, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    copied = folder / f"fine_{DAYS[0]}.tif"
    target = theirs / f"{file_name(NAMES[0])}.tif"
    with rasterio.open(copied) as source:
        values, profile = source.read(), source.profile
    profile |= {"dtype": "float32"}
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write((values * np.float32(1e-4)).astype("float32"))
        dataset.descriptions = ("red", "nir")
    code = "import shutil, sys; shutil.copy(*sys.argv[1:])"
    program = f'copy={sys.executable} -c "{code}" {{fine_0}} {{out}}'
    out = tmp_path / "out"
    more = ("--predictions", f"theirs={theirs}", "--program", program)
    geofuse_command(*words(folder, out, *more, "--metrics", "rmse"))
    rows = rows_of(out / "table.csv")
    values = {
        (row["method"], row["case"]): row["value"]
        for row in rows
        if row["band"] == "red"
    }
    assert values["copy", NAMES[0]] == values["persistence", NAMES[0]]
    assert float(values["theirs", NAMES[0]]) == pytest.approx(
        float(values["persistence", NAMES[0]]), rel=1e-5
    )
    assert not [
        row["error"] for row in rows if row["method"] == "copy" and row["error"]
    ]
    (missing,) = (row for row in rows if row["error"])
    assert (missing["method"], missing["case"]) == ("theirs", NAMES[1])
    assert "no such file" in (out / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"methods": "band-lime"}, "did you mean 'band-line'"),
        ({"methods": "band-line,band-line"}, "each method once"),
        ({"methods": "starfm(radius=x)"}, "whole number"),
        ({"more": ("--metrics", "rmsee")}, "did you mean 'rmse'"),
        ({"more": ("--slices", "edges")}, "did you mean 'edge'"),
        ({"more": ("--protocol", "leave-date")}, "did you mean 'leave-date-out'"),
        ({"more": ("--against", "starfm")}, "for --against"),
        ({"more": ("--predictions", "folder")}, "NAME=FOLDER"),
        ({"more": ("--predictions", "x=nowhere")}, "found none at nowhere"),
        ({"more": ("--program", "x=tool {fine}")}, "names {out}"),
        ({"more": ("--program", "x=tool {fines_0} {out}")}, "did you mean 'fine_0'"),
        ({"more": ("--seed", "-1")}, "seed of at least 0"),
        ({"cases": "nowhere.csv"}, "expected a table"),
    ],
)
def test_mistakes_end_in_one_line(geofuse_command, folder, tmp_path, change, match):
    more = change.pop("more", ())
    code, _, error = geofuse_command(*words(folder, tmp_path / "out", *more, **change))
    assert code == 2
    assert match in error
    assert len(error.splitlines()) == 1


def test_a_protocol_and_a_training_table_are_one_too_many(
    geofuse_command, folder, tmp_path
):
    more = ("--protocol", "leave-date-out", "--train", folder / "train.csv")
    code, _, error = geofuse_command(*words(folder, tmp_path / "out", *more))
    assert code == 2
    assert "found both" in error


def test_the_table_is_not_written_over(geofuse_command, folder, tmp_path):
    inside = tmp_path / "table.csv"
    inside.write_text((folder / "cases.csv").read_text())
    code, _, error = geofuse_command(*words(tmp_path, tmp_path, cases="table.csv"))
    assert code == 2
    assert "an output that is no input" in error


def test_methods_are_read_with_their_fields():
    text = "starfm(radius=10, classes=8) , fit-fc,band-line"
    options = argparse.Namespace(methods=text, predictions=[], program=[])
    found = benchmark.methods_of(options)
    assert list(found) == ["starfm(radius=10, classes=8)", "fit-fc", "band-line"]
    assert found["starfm(radius=10, classes=8)"].radius == 10
