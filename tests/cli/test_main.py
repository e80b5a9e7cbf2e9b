import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

import geofuse
import geofuse.cli
from geofuse.cli import COMMANDS, main
from geofuse.errors import NothingValidWarning, WriteError

ROOT = Path(geofuse.__file__).parents[1]
START = "import sys; from geofuse.cli import main; sys.exit(main())"
HELPS = [[], *([name] for name in COMMANDS)]


def run_apart(*words, **options):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_comes_in_less_than_half_a_second(words):
    best = float("inf")
    for _ in range(5):  # a busy machine may be slow now and then
        begin = time.perf_counter()
        done = run_apart(*words, "--help")
        best = min(best, time.perf_counter() - begin)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: geofuse")
        if best < 0.5:
            break
    assert best < 0.5


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_imports_nothing_heavy(words):
    probe = (
        "import sys; from geofuse.cli import main\n"
        "try: main([*sys.argv[1:], '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'rasterio', 'dask', 'xarray', 'numpy', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stderr.strip() == "[]"


def test_the_version_is_told(geofuse_command):
    assert geofuse_command("--version")[:2] == (0, f"{geofuse.__version__}\n")


def test_a_misspelled_command_is_told_with_the_nearest_name(geofuse_command):
    code, out, err = geofuse_command("fues")
    assert (code, out) == (2, "")
    assert err.startswith(
        "geofuse: expected a command, found 'fues'; did you mean 'fuse'?"
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["fuse"], ["info"], ["methods", "--jsno"]])
def test_a_command_line_that_is_not_complete_is_one_line(geofuse_command, words):
    code, out, err = geofuse_command(*words)
    assert (code, out) == (2, "")
    assert err.startswith("geofuse: ")
    assert "--help" in err
    assert err.count("\n") == 1


def failing(error):
    def run(options):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (WriteError("expected space,\nfound none"), 1, "expected space, found none"),
        (KeyboardInterrupt(), 130, "give the same command again to continue"),
        (MemoryError(), 1, "smaller tiles"),
    ],
)
def test_errors_become_exit_codes_and_one_line(
    geofuse_command, monkeypatch, error, code, words
):
    monkeypatch.setattr(geofuse.cli.methods, "run", failing(error))
    found, out, err = geofuse_command("methods")
    assert (found, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_mistake_of_ours_keeps_its_traceback(geofuse_command, monkeypatch):
    monkeypatch.setattr(geofuse.cli.methods, "run", failing(RuntimeError("ours")))
    with pytest.raises(RuntimeError, match="ours"):
        main(["methods"])


def test_only_warnings_of_geofuse_reach_the_user(geofuse_command, monkeypatch):
    def run(options):
        warnings.simplefilter("always")
        warnings.warn("other", UserWarning, stacklevel=1)
        warnings.warn("nothing\nvalid", NothingValidWarning, stacklevel=1)
        return 0

    before = warnings.showwarning
    monkeypatch.setattr(geofuse.cli.methods, "run", run)
    assert geofuse_command("methods")[2] == "geofuse: warning: nothing valid\n"
    assert warnings.showwarning is before


@pytest.mark.parametrize("length", [10, 1_000_000])
def test_a_reader_that_goes_away_ends_the_command_quietly(length):
    probe = (
        "import sys; import geofuse.cli as cli\n"
        f"cli.methods.run = lambda options: print('x' * {length}) or 0\n"
        "sys.exit(cli.main(['methods']))"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", probe],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_drivers_that_follow_files_to_other_places_are_not_there():
    probe = (
        "from geofuse.cli import main; import sys\n"
        "main(['info', sys.argv[1]])\n"
        "import rasterio.drivers, rasterio\n"
        "with rasterio.Env() as env: drivers = env.drivers()\n"
        "print(sorted({'VRT', 'WMS', 'HTTP', 'STACIT', 'GTiff'} & set(drivers)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, "missing.tif"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "GDAL_SKIP"},
    )
    assert done.stdout.strip() == "['GTiff']"
