"""The main job from files to files, and everything that a user can get wrong."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import geofuse
from geofuse.errors import CalibrationWarning, NothingValidWarning
from geofuse.pairs import FusionInputs, Pair
from geofuse.rasters.align import align
from geofuse.rasters.optical import open_optical
from geofuse.spatiotemporal.baselines import BandLine
from tests.conftest import GRID, write_scene

ROOT = Path(geofuse.__file__).parents[1]


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- products
# ---------------------------------------------------------------------------


def test_stdout_holds_the_path_only_and_stderr_nothing(
    scene, tmp_path, geofuse_command
):
    out = tmp_path / "fused.tif"
    code, stdout, stderr = geofuse_command(*scene.command("coarse-change", out))
    assert (code, stdout, stderr) == (0, f"{out}\n", "")
    assert names(tmp_path) == ["fused.tif"]


def test_a_class_map_is_used_and_told_of(scene, tmp_path, geofuse_command):
    labels = tmp_path / "labels.tif"
    with rasterio.open(scene.fine("2021-05-01")) as fine:
        profile = fine.profile | {"count": 1, "dtype": "uint8"}
        left = np.ones((1, fine.height, fine.width), "uint8")
    left[..., left.shape[-1] // 2 :] = 2
    with rasterio.open(labels, "w", **profile) as dataset:
        dataset.write(left)
    outs = [tmp_path / name for name in ("own.tif", "given.tif", "few.tif")]
    plain = scene.command(
        "unmixing", outs[0], "--set", "classes=2", dates=scene.dates[:1]
    )
    assert geofuse_command(*plain)[0] == 0
    given = [*plain, "--classes", str(labels), "-o", str(outs[1])]
    assert geofuse_command(*given)[0] == 0
    assert not np.array_equal(read(outs[0]), read(outs[1]), equal_nan=True)
    with rasterio.open(outs[1]) as product:
        assert "classes: labels.tif" in product.tags()["inputs"]
    few = [*given, "--set", "classes=1", "-o", str(outs[2])]
    code, _, stderr = geofuse_command(*few)
    assert (code, "set classes=2" in stderr) == (2, True)
    assert not outs[2].exists()


def test_a_product_of_files_is_the_formula_of_their_pixels(
    scene, tmp_path, geofuse_command
):
    out = tmp_path / "fused.tif"
    words = scene.command("coarse-change", out, dates=scene.dates[:1])
    assert geofuse_command(*words)[0] == 0
    fine = np.where(
        read(scene.fine("2021-05-01")) == 0,
        np.nan,
        read(scene.fine("2021-05-01")) * 1e-4,
    )
    change = read(scene.coarse(scene.at)) - read(scene.coarse("2021-05-01")).astype(
        "f8"
    )
    change = change.repeat(16, axis=1).repeat(16, axis=2) * 1e-4
    # float32: three roundings of numbers below 1
    np.testing.assert_allclose(read(out), fine + change, atol=2e-7)
    assert np.isnan(read(out)).any()


def test_the_product_of_the_command_is_that_of_python(scene, tmp_path, geofuse_command):
    out = tmp_path / "fused.tif"
    assert geofuse_command(*scene.command("band-line", out, "--tile", "48"))[0] == 0
    fine_sensor, coarse_sensor = scene.sensors[1], scene.sensors[3]
    bands = ["red", "nir"]
    pairs = []
    for date in scene.dates:
        fine = open_optical(scene.fine(date), fine_sensor, date=date, bands=bands)
        coarse = open_optical(scene.coarse(date), coarse_sensor, date=date, bands=bands)
        pairs.append(Pair(fine, align(coarse, like=fine)))
    later = open_optical(
        scene.coarse(scene.at), coarse_sensor, date=scene.at, bands=bands
    )
    inputs = FusionInputs(pairs, align(later, like=pairs[0].fine))
    expected = BandLine().predict(inputs).reflectance.values
    np.testing.assert_array_equal(read(out), expected)


def test_a_product_says_how_it_was_made(scene, tmp_path, geofuse_command):
    out = tmp_path / "fused.tif"
    words = scene.command("coarse-change", out, "--set", "upsample=bicubic")
    assert geofuse_command(*words)[0] == 0
    with rasterio.open(out) as dataset:
        tags = dataset.tags()
        assert dataset.descriptions == ("red", "nir")
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform == GRID
        assert np.isnan(dataset.nodata)
    assert tags["method"] == "CoarseChange(upsample='bicubic')"
    assert tags["geofuse_version"] == geofuse.__version__
    assert tags["base_dates"] == "2021-05-01, 2021-09-01"
    assert tags["prediction_date"] == tags["time"] == "2021-07-01"
    assert "2021-05-01: fine_2021-05-01.tif coarse_2021-05-01.tif" in tags["inputs"]


@pytest.mark.parametrize("method", ["persistence", "band-line", "linear-in-time"])
def test_the_order_of_pairs_changes_no_byte(scene, tmp_path, geofuse_command, method):
    contents = []
    for dates in (scene.dates, scene.dates[::-1]):
        out = tmp_path / f"{dates[0]}.tif"
        assert geofuse_command(*scene.command(method, out, dates=dates))[0] == 0
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]


def test_the_earliest_fine_image_gives_the_grid_in_any_order(
    tmp_path, geofuse_command, raster
):
    scene = write_scene(tmp_path)
    moved = GRID * Affine.translation(16, 0)
    later = read(scene.fine("2021-09-01"))[:, :, 16:]
    raster("fine_2021-09-01.tif", later, transform=moved)
    contents = []
    for dates in (scene.dates, scene.dates[::-1]):
        out = tmp_path / "out.tif"
        assert geofuse_command(*scene.command("persistence", out, dates=dates))[0] == 0
        contents.append(out.read_bytes())
        assert read(out).shape == (2, 96, 128)
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "words", [("--tile", "33"), ("--workers", "1"), ("--workers", "2")]
)
def test_tiles_and_workers_change_no_pixel(scene, tmp_path, geofuse_command, words):
    one, other = tmp_path / "one.tif", tmp_path / "other.tif"
    assert geofuse_command(*scene.command("band-line", one))[0] == 0
    assert geofuse_command(*scene.command("band-line", other, *words))[0] == 0
    np.testing.assert_array_equal(read(one), read(other))


def test_a_part_is_the_part_of_the_whole(scene, tmp_path, geofuse_command):
    whole, part = tmp_path / "whole.tif", tmp_path / "part.tif"
    box = (GRID.c + 600, GRID.f - 2100, GRID.c + 3000, GRID.f - 330)
    assert geofuse_command(*scene.command("coarse-change", whole))[0] == 0
    words = scene.command("coarse-change", part, "--bbox", *box)
    assert geofuse_command(*words)[0] == 0
    np.testing.assert_array_equal(read(part), read(whole)[:, 11:70, 20:100])


def test_quality_tells_pair_similar_pixels_and_filling(
    scene, tmp_path, geofuse_command
):
    out, quality = tmp_path / "fused.tif", tmp_path / "quality.tif"
    words = scene.command("persistence", out, "--quality", quality)
    code, stdout, _ = geofuse_command(*words)
    assert (code, stdout) == (0, f"{out}\n")
    with rasterio.open(quality) as dataset:
        assert dataset.descriptions == ("pair", "similar", "filled")
        assert dataset.dtypes == ("uint16",) * 3
        pair, _, filled = dataset.read()
    # The nearest date is 2021-05-01, with a gap in rows 5 to 14.
    expected = np.ones((96, 128))
    expected[5:15, 30:50] = 2
    np.testing.assert_array_equal(pair, expected)
    assert (filled[5:15, 30:50] == 1).all()
    assert np.isfinite(read(out)).all()


def test_uncertainty_is_a_standard_deviation_a_band(scene, tmp_path, geofuse_command):
    out, spread = tmp_path / "fused.tif", tmp_path / "std.tif"
    words = scene.command("starfm", out, "--uncertainty", spread, "--set", "radius=2")
    assert geofuse_command(*words)[0] == 0
    with rasterio.open(spread) as dataset:
        assert dataset.descriptions == ("red_std", "nir_std")
        values = dataset.read()
    assert np.nanmin(values) >= 0
    assert np.isfinite(values).any()


def test_bounds_are_bands_beside_the_standard_deviation(
    scene, tmp_path, geofuse_command
):
    out, spread = tmp_path / "fused.tif", tmp_path / "std.tif"
    words = scene.command("starfm", out, "--uncertainty", spread, "--set", "radius=2")
    assert geofuse_command(*words, "--bounds", "0.9")[0] == 0
    with rasterio.open(spread) as dataset:
        assert dataset.descriptions == (
            *("red_std", "nir_std", "red_lower", "nir_lower"),
            *("red_upper", "nir_upper"),
        )
        assert "90 % of the truth" in dataset.tags()["long_name"]
        std, lower, upper = np.split(dataset.read(), 3)
    image, reach = read(out), 1.6448536 * std
    # float32: a root, a product and a sum, of numbers below 1
    np.testing.assert_allclose(lower, image - reach, atol=1e-6)
    np.testing.assert_allclose(upper, image + reach, atol=1e-6)
    # The same numbers, whether bounds are asked for or not.
    again = tmp_path / "again.tif"
    assert geofuse_command(*words, "-o", again)[0] == 0
    np.testing.assert_array_equal(read(again), image)
    np.testing.assert_array_equal(read(spread), std)


def test_bounds_need_a_file_and_a_level(scene, tmp_path, geofuse_command):
    words = scene.command("starfm", tmp_path / "a.tif", "--bounds")
    code, _, err = geofuse_command(*words, "0.9")
    assert (code, "--uncertainty FILE" in err) == (2, True)
    code, _, err = geofuse_command(*words, "90", "--uncertainty", tmp_path / "b.tif")
    assert (code, "write 0.9 for" in err) == (2, True)
    assert names(tmp_path) == []


def test_uncertainty_of_a_method_that_states_none_is_refused(
    scene, tmp_path, geofuse_command
):
    words = scene.command("persistence", tmp_path / "a.tif", "--uncertainty", "b.tif")
    code, _, err = geofuse_command(*words)
    assert code == 2
    assert "states its uncertainty, found persistence" in err
    assert names(tmp_path) == []


def test_a_product_without_valid_pixels_is_exit_0_with_one_warning(
    tmp_path, geofuse_command, raster
):
    scene = write_scene(tmp_path)
    raster("fine_2021-05-01.tif", np.zeros((2, 96, 128), "uint16"))
    out = tmp_path / "out.tif"
    words = scene.command("persistence", out, dates=scene.dates[:1])
    with warnings.catch_warnings():
        # Shown, as outside of the tests, and not raised.
        warnings.simplefilter("default", NothingValidWarning)
        code, stdout, err = geofuse_command(*words)
    assert (code, stdout) == (0, f"{out}\n")
    assert err.startswith(
        "geofuse: warning: expected valid pixels, found none in out.tif"
    )
    assert err.count("\n") == 1
    assert np.isnan(read(out)).all()


# --- the scale
# --------------------------------------------------------------------------


@pytest.fixture
def on_fine_grid(tmp_path, raster):
    """A scene of which the coarse files lie on the fine grid, replicated."""
    scene = write_scene(tmp_path)
    for date in (*scene.dates, scene.at):
        values = read(scene.coarse(date)).repeat(16, axis=1).repeat(16, axis=2)
        raster(f"coarse_{date}.tif", values, bands=("red", "nir"))
    return scene


BICUBIC = ("--set", "upsample=bicubic")


def test_the_scale_is_found_from_replicated_pixels(
    scene, on_fine_grid, tmp_path, geofuse_command
):
    one, other = tmp_path / "nested.tif", tmp_path / "replicated.tif"
    assert geofuse_command(*scene.command("coarse-change", one, *BICUBIC))[0] == 0
    words = on_fine_grid.command("coarse-change", other, *BICUBIC)
    assert geofuse_command(*words)[0] == 0
    np.testing.assert_array_equal(read(one), read(other))


def test_a_part_of_replicated_pixels_has_their_scale_and_offset(
    on_fine_grid, tmp_path, geofuse_command
):
    whole, part = tmp_path / "whole.tif", tmp_path / "part.tif"
    box = (GRID.c + 600, GRID.f - 2100, GRID.c + 3000, GRID.f - 330)
    command = on_fine_grid.command
    assert geofuse_command(*command("coarse-change", whole, *BICUBIC))[0] == 0
    words = command("coarse-change", part, *BICUBIC, "--bbox", *box)
    assert geofuse_command(*words)[0] == 0
    # The coarse pixels that are two away from where the part was cut.
    np.testing.assert_allclose(
        read(part)[:, :37, 28:60], read(whole)[:, 11:48, 48:80], atol=1e-6
    )


@pytest.fixture
def smooth(on_fine_grid, raster):
    """The same with coarse files that were interpolated."""
    for date in (*on_fine_grid.dates, on_fine_grid.at):
        values = read(on_fine_grid.coarse(date)).astype("f8")
        values += np.add.outer(np.arange(96.0), np.arange(128.0))
        raster(f"coarse_{date}.tif", values.astype("uint16"), bands=("red", "nir"))
    return on_fine_grid


def test_a_smooth_coarse_image_needs_the_scale_only_where_it_is_used(
    smooth, tmp_path, geofuse_command
):
    out = tmp_path / "out.tif"
    assert geofuse_command(*smooth.command("coarse-change", out))[0] == 0
    before = out.read_bytes()
    words = smooth.command("coarse-change", out, *BICUBIC)
    code, stdout, err = geofuse_command(*words)
    assert (code, stdout) == (2, "")
    assert "expected the scale" in err
    assert "--scale N" in err
    assert out.read_bytes() == before
    assert geofuse_command(*words, "--scale", "16")[0] == 0


# --- bad input
# --------------------------------------------------------------------------


def replaced(words, old, new):
    return [new if word == old else word for word in words]


def wrong(scene, folder, case):
    """The words of a command with one mistake, and what the message must say."""
    fine, coarse = scene.fine("2021-05-01"), scene.coarse("2021-05-01")
    at = scene.coarse(scene.at)
    out = folder / "out.tif"
    right = scene.command("persistence", out)
    change = scene.command("coarse-change", out)

    def file(name, **options):
        source = options.pop("like", coarse)
        with rasterio.open(source) as dataset:
            profile, values = dataset.profile, dataset.read()
        values = options.pop("values", values)
        profile |= {"count": len(values), **options}
        with rasterio.open(folder / name, "w", **profile) as dataset:
            dataset.write(values)
        return str(folder / name)

    def cut():
        path = folder / "cut.tif"
        path.write_bytes(Path(fine).read_bytes()[:-1000])
        return str(path)

    def text():
        path = folder / "notes.tif"
        path.write_text("not a raster")
        return str(path)

    far = GRID * Affine.translation(10_000, 0) * Affine.scale(16)
    return {
        "a file that is missing": lambda: (
            replaced(right, fine, "missing.tif"), "found nothing at .*missing.tif"),
        "a file that is cut off": lambda: (
            replaced(right, fine, cut()), "none or is damaged"),
        "a file that is no raster": lambda: (
            replaced(right, coarse, text()), "none or is damaged"),
        "a folder as a file": lambda: (
            replaced(right, at, str(folder)), "found a folder"),
        "an unknown method": lambda: (
            replaced(right, "persistence", "persistense"),
            "did you mean 'persistence'"),
        "an unknown field": lambda: (
            [*change, "--set", "upsmaple=block"], "did you mean 'upsample'"),
        "a value out of range": lambda: (
            [*change, "--set", "upsample=cubic"], "block or bicubic"),
        "a tile of nothing": lambda: ([*right, "--tile", "0"], "--tile of at least 1"),
        "no workers": lambda: ([*right, "--workers", "0"], "--workers of at least 1"),
        "a scale of one": lambda: ([*right, "--scale", "1"], "whole number above 1"),
        "a scale that is no number": lambda: (
            [*right, "--scale", "many"], "invalid int value: 'many'"),
        "a date that is not ISO": lambda: (
            replaced(right, scene.at, "01.07.2021"), "an ISO date like 2021-07-01"),
        "a day that there is not": lambda: (
            replaced(right, "2021-09-01", "2021-09-31"), "an ISO date"),
        "two pairs of one date": lambda: (
            replaced(right, "2021-09-01", "2021-05-01"), "one pair a date"),
        "another place": lambda: (
            replaced(right, coarse, file("far.tif", transform=far)), "do not meet"),
        "no CRS on one side": lambda: (
            replaced(right, coarse, file("plain.tif", crs=None)), "a CRS on both"),
        "a rotated grid": lambda: (
            replaced(right, coarse,
                     file("turned.tif", transform=GRID * Affine.rotation(20))),
            "rotated one"),
        "other bands": lambda: (
            replaced(right, coarse, file("one.tif", values=read(coarse)[:1])),
            "found 1 in .*one.tif"),
        "a band that there is not": lambda: (
            replaced(right, "red,nir", "red,swir1,nir"), "expected 3 bands"),
        "a band of a sensor that it has not": lambda: (
            replaced(
                replaced(right, "gain=1e-4,nodata=0", "hls-l30"), "red,nir", "nri"),
            "did you mean 'nir'"),
        "an unknown sensor": lambda: (
            replaced(right, "gain=1e-4,nodata=0", "landsat"), "expected a sensor"),
        "a gain that is no number": lambda: (
            replaced(right, "gain=1e-4", "gain=small"), "a number for gain"),
        "a box elsewhere": lambda: (
            [*right, "--bbox", "0", "0", "1", "1"], "box that meets"),
        "a box without its CRS": lambda: (
            [*right, "--bbox", "15", "46", "15.1", "46.1"], "its CRS if it is another"),
        "a CRS without its box": lambda: (
            [*right, "--bbox-crs", "EPSG:4326"], "a box beside its CRS"),
        "too few pairs": lambda: (
            scene.command("linear-in-time", out, dates=scene.dates[:1]),
            "at least 2 pairs"),
        "an output that is an input": lambda: (
            replaced(right, str(out), fine), "an output that is no input"),
        "two outputs in one file": lambda: (
            [*right, "--quality", str(out)], "each output in a file of its own"),
        "no pair": lambda: (
            scene.command("persistence", out, dates=()), "required: --pair"),
        "a pair of two": lambda: (
            replaced(right, "2021-05-01", "--at"), "expected 3 arguments"),
        "an option that there is not": lambda: (
            [*right, "--scael", "16"], "unrecognized arguments: --scael"),
    }[case]()  # fmt: skip


CASES = [
    "a file that is missing", "a file that is cut off", "a file that is no raster",
    "a folder as a file", "an unknown method", "an unknown field",
    "a value out of range", "a tile of nothing", "no workers", "a scale of one",
    "a scale that is no number", "a date that is not ISO", "a day that there is not",
    "two pairs of one date", "another place", "no CRS on one side", "a rotated grid",
    "other bands", "a band that there is not", "a band of a sensor that it has not",
    "an unknown sensor", "a gain that is no number", "a box elsewhere",
    "a box without its CRS", "a CRS without its box", "too few pairs",
    "an output that is an input", "two outputs in one file", "no pair",
    "a pair of two", "an option that there is not",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_exit_2_with_one_line_and_leaves_all_as_it_was(
    scene, tmp_path, geofuse_command, case
):
    words, expected = wrong(scene, tmp_path, case)
    (tmp_path / "out.tif").write_bytes(b"the product of yesterday")
    fine = Path(scene.fine("2021-05-01")).read_bytes()
    before = names(tmp_path)
    code, out, err = geofuse_command(*words)
    assert (code, out) == (2, ""), err
    assert err.startswith("geofuse: ")
    assert err.count("\n") == 1
    assert re.search(expected, err), err
    assert (tmp_path / "out.tif").read_bytes() == b"the product of yesterday"
    assert Path(scene.fine("2021-05-01")).read_bytes() == fine
    assert names(tmp_path) == before
    assert geofuse_command(*scene.command("persistence", tmp_path / "out.tif"))[0] == 0


def test_a_link_to_an_input_is_an_input(scene, tmp_path, geofuse_command):
    link = tmp_path / "link.tif"
    link.symlink_to(scene.fine("2021-05-01"))
    code, _, err = geofuse_command(*scene.command("persistence", link))
    assert code == 2
    assert "an output that is no input" in err


@pytest.mark.parametrize(
    "name", ["missing/out.tif", "file/out.tif", "/proc/out.tif", "."]
)
def test_an_output_that_cannot_be_written_is_exit_1(
    scene, tmp_path, geofuse_command, name
):
    (tmp_path / "file").write_text("not a folder")
    code, out, err = geofuse_command(*scene.command("persistence", tmp_path / name))
    assert (code, out) == (1, "")
    assert err.startswith("geofuse: expected ")
    assert err.count("\n") == 1
    assert names(tmp_path) == ["file"]


def test_a_file_that_breaks_while_it_is_read_leaves_the_product_of_yesterday(
    tmp_path, geofuse_command
):
    scene = write_scene(tmp_path)
    out = tmp_path / "out.tif"
    out.write_bytes(b"the product of yesterday")
    path = Path(scene.fine("2021-05-01"))
    with rasterio.open(path) as dataset:
        profile, values = dataset.profile, dataset.read()
    with rasterio.open(path, "w", **{**profile, "compress": "zstd"}) as dataset:
        dataset.write(values)
    with rasterio.open(path) as dataset:
        place = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[place : place + 8] = bytes(8)
    path.write_bytes(content)
    code, stdout, err = geofuse_command(*scene.command("persistence", out))
    assert (code, stdout) == (2, "")
    assert "the file is damaged" in err
    assert out.read_bytes() == b"the product of yesterday"
    assert ".out.tif.geofuse" not in names(tmp_path)


# --- Ctrl-C
# -----------------------------------------------------------------------------


def test_ctrl_c_is_exit_130_and_the_same_command_goes_on(
    tmp_path, geofuse_command, monkeypatch
):
    scene = write_scene(tmp_path, rows=256, columns=256)
    out = tmp_path / "out.tif"
    words = scene.command("coarse-change", out, "--tile", "16")
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import sys; from geofuse.cli import main; sys.exit(main())",
         *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    folder = tmp_path / ".out.tif.geofuse"
    end = time.monotonic() + 90
    while len(list(folder.glob("*.npy"))) < 15 and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert stdout == ""
    assert err == "geofuse: stopped; give the same command again to continue\n"
    assert not out.exists()
    kept = len(list(folder.glob("*.npy")))
    assert 15 <= kept < 256

    from geofuse.rasters.write import _Stage

    stored = []
    original = _Stage.keep
    monkeypatch.setattr(
        _Stage, "keep", lambda self, *tile: stored.append(tile) or original(self, *tile)
    )
    assert geofuse_command(*words)[0] == 0
    assert len(stored) == 256 - kept
    whole = tmp_path / "whole.tif"
    assert geofuse_command(*scene.command("coarse-change", whole))[0] == 0
    np.testing.assert_array_equal(read(out), read(whole))


def test_files_of_two_units_are_warned_of_in_one_line(scene, tmp_path, geofuse_command):
    words = scene.command("persistence", tmp_path / "out.tif", dates=scene.dates[:1])
    words[words.index("--coarse-sensor") + 1] = "generic"
    with warnings.catch_warnings():
        warnings.simplefilter("default", CalibrationWarning)
        code, _, stderr = geofuse_command(*words)
    assert code == 0
    assert stderr.startswith("geofuse: warning: expected fine and coarse values of one")
    assert len(stderr.splitlines()) == 1
