import contextlib
import html
import io
import os
import re
import shlex

import numpy as np
import pytest
import rasterio

from geofuse.cli import main
from geofuse.cli.demo import shown_methods
from geofuse.spatiotemporal import METHODS


def shown(path):
    """The commands on the page, by method."""
    blocks = re.findall(r"<pre><code>(.*?)</code></pre>", path.read_text(), re.DOTALL)
    commands = [
        shlex.split(html.unescape(block).replace("\\\n", "")) for block in blocks
    ]
    return {command[2]: command for command in commands}


def pixels(path):
    with rasterio.open(path) as file:
        return file.read()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder with a small demo, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "made" / "here"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["demo", "--out", str(folder), "--size", "64"]) == 0
    return folder, said.getvalue()


def test_page_picture_and_products_lie_in_the_folder(demo):
    folder, _ = demo
    products = {f"{name}.tif" for name in shown_methods()}
    visible = {path.name for path in folder.iterdir() if path.name[0] != "."}
    assert visible == {"index.html", "overview.png", "inputs", *products}
    assert (folder / "overview.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / "inputs").iterdir())) == 6


def test_products_are_whole_and_tell_how_they_were_made(demo):
    folder, _ = demo
    for name in shown_methods():
        with rasterio.open(folder / f"{name}.tif") as file:
            assert file.shape == (64, 64)
            assert file.descriptions == ("green", "red", "nir", "swir1")
            assert file.crs.to_epsg() == 32633
            assert np.isnan(file.nodata)
            assert file.tags()["method"].startswith(METHODS[name].__name__)
            assert np.isfinite(file.read()).mean() > 0.5


def test_the_commands_on_the_page_make_the_same_products(demo, tmp_path, capsys):
    folder, _ = demo
    commands = shown(folder / "index.html")
    assert list(commands) == shown_methods()
    for name, command in commands.items():
        assert command[:2] == ["geofuse", "fuse"]
        assert command[-2:] == ["-o", str(folder / f"{name}.tif")]
        again = tmp_path / f"{name}.tif"
        assert main([*command[1:-1], str(again)]) == 0
        np.testing.assert_array_equal(pixels(again), pixels(folder / f"{name}.tif"))
    capsys.readouterr()


def test_the_page_needs_no_network(demo):
    text = (demo[0] / "index.html").read_text()
    text = re.sub(r"data:image/png;base64,[\w+/=]*", "", text)
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text


def test_the_table_has_every_method_and_ends_with_the_path_of_the_page(demo):
    folder, said = demo
    lines = said.splitlines()
    assert lines[-1] == str(folder / "index.html")
    (head,) = [number for number, line in enumerate(lines) if line.startswith("RMSE")]
    rows = [line.split() for line in lines[head + 1 : head + 1 + len(shown_methods())]]
    assert {row[0] for row in rows} == set(shown_methods())
    means = [float(row[5]) for row in rows]
    assert means == sorted(means)
    assert 0 < means[0] < 0.2


def test_a_demo_may_be_given_again_and_leaves_other_files_alone(demo, capsys):
    folder, _ = demo
    before = {name: pixels(folder / f"{name}.tif") for name in shown_methods()}
    kept = [folder / "notes.txt", folder / "inputs" / "mine.tif"]
    for path in kept:
        path.write_text("mine")
    (folder / "starfm.tif").write_bytes(b"spoilt")
    (folder / "index.html").write_text("old")
    assert main(["demo", "--out", str(folder), "--size", "64"]) == 0
    capsys.readouterr()
    for name, expected in before.items():
        np.testing.assert_array_equal(pixels(folder / f"{name}.tif"), expected)
    assert (folder / "index.html").read_text().startswith("<!DOCTYPE html>")
    for path in kept:
        assert path.read_text() == "mine"
        path.unlink()


def refused(capsys, *words):
    code = main(["demo", *words])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return code, said.err


def test_a_folder_with_other_things_is_refused_and_left_as_it_is(tmp_path, capsys):
    (tmp_path / "starfm.tif").write_text("mine")
    code, said = refused(capsys, "--out", str(tmp_path), "--size", "64")
    assert code == 2
    assert "expected an empty folder or one of an earlier demo" in said
    assert [path.name for path in tmp_path.iterdir()] == ["starfm.tif"]
    assert (tmp_path / "starfm.tif").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path, capsys):
    path = tmp_path / "demo"
    path.write_text("mine")
    code, said = refused(capsys, "--out", str(path))
    assert code == 2
    assert "expected a folder" in said
    assert path.read_text() == "mine"


@pytest.mark.parametrize("size", ["0", "-5", "63", "8193", "1000000000"])
def test_a_size_out_of_range_makes_nothing(tmp_path, capsys, size):
    folder = tmp_path / "demo"
    code, said = refused(capsys, "--out", str(folder), f"--size={size}")
    assert code == 2
    assert "expected --size of 64 to 8192" in said
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_exit_1(tmp_path, capsys):
    tmp_path.chmod(0o500)
    code, said = refused(capsys, "--out", str(tmp_path / "demo"))
    assert code == 1
    assert "choose a folder that is writable" in said


def test_a_folder_below_a_file_is_exit_1(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    code, said = refused(capsys, "--out", str(tmp_path / "file" / "demo"))
    assert code == 1
    assert "cannot be done" in said


def test_inputs_that_are_a_link_are_refused(tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "fine_1.tif").write_text("mine")
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / ".geofuse-demo").write_text("")
    (folder / "inputs").symlink_to(mine)
    code, said = refused(capsys, "--out", str(folder), "--size", "64")
    assert code == 2
    assert "the link" in said
    assert (mine / "fine_1.tif").read_text() == "mine"
