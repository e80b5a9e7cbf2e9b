"""Fuse a simulated scene with every fixed method, score them, and make a page of it.

  geofuse demo --out demo --size 512

Into the folder go the scene as a user would have it (inputs/: Landsat-like and
MODIS-like files in two CRS, with clouds and nodata, and the true image), the product of
each method, overview.png, and index.html to open in a browser. A folder that a demo
made may be given again; then its files are replaced. Any other folder must be empty.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HELP = "fuse a simulated scene with every fixed method, and make a page of it"

_SMALLEST, _LARGEST = 64, 8192
_MARK = ".geofuse-demo"
_PAGE, _PICTURE = "index.html", "overview.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder to write into; made if missing",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=512,
        metavar="N",
        help="height and width of the scene in fine pixels (512)",
    )


def run(options: argparse.Namespace) -> int:
    """Simulate, fuse, score, and write the page."""
    from geofuse.errors import ParameterError
    from geofuse.synthetic import simulate_files

    if not _SMALLEST <= options.size <= _LARGEST:
        raise ParameterError(
            f"expected --size of {_SMALLEST} to {_LARGEST} fine pixels, found "
            f"{options.size}; 512 takes half a minute"
        )
    folder = Path(options.out)
    if options.out.startswith("-"):  # or the commands would take it for an option
        folder = Path(os.curdir, options.out)
    with _writing(folder):
        _take(folder)
    scene = simulate_files(folder / "inputs", size=options.size)
    print(f"{folder / 'inputs'}: a simulated scene of {options.size} pixels squared")
    commands, seconds = {}, {}
    for name in shown_methods():
        commands[name] = command_of(name, scene, folder)
        begin = time.perf_counter()
        _fuse(commands[name])
        seconds[name] = time.perf_counter() - begin
    _report(scene, commands, seconds, folder)
    return 0


def shown_methods() -> list[str]:
    """Every method for one date but the learned ones, which take a minute to compile."""
    from geofuse.spatiotemporal import METHODS

    return [name for name in METHODS if name not in ("mixture-net", "kernel-net")]


def command_of(method: str, scene: Any, folder: Path) -> list[str]:
    """The words after `geofuse` that make the product of a method.

    Every method gets both pairs: one that uses the nearest pair only falls back on the
    other under clouds.
    """
    words = ["fuse", method]
    for fine, coarse, date in zip(scene.fine, scene.coarse, scene.dates, strict=True):
        words += ["--pair", str(fine), str(coarse), date]
    words += ["--at", str(scene.coarse_at), scene.at]
    words += [
        "--fine-sensor",
        scene.fine_sensor,
        "--coarse-sensor",
        scene.coarse_sensor,
    ]
    words += ["--bands", ",".join(scene.bands)]
    return [*words, "-o", str(folder / f"{method}.tif")]


def _fuse(command: list[str]) -> None:
    """Run `geofuse fuse`."""
    from geofuse.cli import fuse

    fuse.run(_parsed(command))


def _parsed(command: list[str]) -> argparse.Namespace:
    from geofuse.cli import fuse

    parser = argparse.ArgumentParser(allow_abbrev=False)
    fuse.add_arguments(parser)
    return parser.parse_args(command[1:])


def _report(
    scene: Any,
    commands: dict[str, list[str]],
    seconds: dict[str, float],
    folder: Path,
) -> None:
    """Score the products, write the page and the picture, print the table."""
    from geofuse import plots
    from geofuse.cli.fuse import open_inputs
    from geofuse.cli.methods import method_from
    from geofuse.evaluation.metrics import score
    from geofuse.evaluation.report import Result, page
    from geofuse.rasters.grid import grid_of
    from geofuse.rasters.optical import open_optical
    from geofuse.spatiotemporal.baselines import TrivialLine

    bands = list(scene.bands)
    truth = open_optical(scene.truth, scene.fine_sensor, date=scene.at, bands=bands)
    products = {
        name: open_optical(folder / f"{name}.tif", date=scene.at, bands=bands)
        for name in commands
    }
    valid = truth.notnull().all("band")
    for product in products.values():
        valid &= product.notnull().all("band").drop_vars("time")
    coarse = open_optical(scene.coarse_at, scene.coarse_sensor, date=scene.at)
    scale = grid_of(coarse).affine.a / grid_of(truth).affine.a
    results = []
    for name, product in products.items():
        method = method_from(name, [])
        results.append(
            Result(
                name,
                product,
                score(product, truth, scale=scale, valid=valid),
                method=repr(method),
                seconds=seconds[name],
                command=["geofuse", *commands[name]],
                trivial=isinstance(method, TrivialLine),
            )
        )
    seen = open_inputs(_parsed(next(iter(commands.values()))))
    inputs = {}
    for pair in seen.pairs:
        inputs[f"fine, {pair.date}"] = pair.fine
        inputs[f"coarse, {pair.date}"] = pair.coarse
    inputs[f"coarse, {seen.date}"] = seen.coarse
    views = {name: plots.decimated(image) for name, image in inputs.items()}
    title = f"geofuse demo: the fine image of {seen.date}"
    drawn = plots.panel(
        views,
        {name: plots.decimated(product) for name, product in products.items()},
        plots.decimated(truth),
        title=title,
    )
    text = page(
        results, inputs=views, reference=truth, title=title, about=_about(scene, scale)
    )
    with _writing(folder):
        _write(folder / _PICTURE, plots.png(drawn))
        _write(folder / _PAGE, text.encode())
    print(f"\n{_table(results, bands)}\n\n{folder / _PAGE}")


def _about(scene: Any, scale: float) -> list[str]:
    """Where the scene comes from, in words."""
    return [
        "The scene is simulated, so the truth is known: fields, forest, water and "
        "roads that change with the season, and some parcels that change abruptly. The "
        "fine images are Landsat-like, in UTM, with clouds and the edge of the swath "
        "as nodata; the coarse images are MODIS-like, in the sinusoidal projection, "
        f"with pixels {scale:.1f} times as large and clouds of their own.",
        f"Each method saw the pairs of {' and '.join(scene.dates)} and the coarse "
        f"image of {scene.at}, and predicted the fine image of that day with geofuse "
        "fuse, from files to files. All got both pairs, so that one can fill the "
        "clouds of the other. On real scenes the order of the methods can be another.",
    ]


def _table(results: list[Any], bands: list[str]) -> str:
    """The scores in lines of text, the best method first."""
    width = max(len(result.name) for result in results)
    heads = [f"{'RMSE':<{width}}", *(f"{band:>8}" for band in bands)]
    lines = ["".join([*heads, f"{'mean':>8}{'r':>8}{'SSIM':>8}{'time':>9}"])]
    for result in sorted(results, key=lambda result: result.value("rmse")):
        numbers = [result.value("rmse", band) for band in bands]
        numbers += [result.value(metric) for metric in ("rmse", "r", "ssim")]
        cells = "".join(f"{number:8.4f}" for number in numbers)
        lines.append(f"{result.name:<{width}}{cells}{result.seconds:7.1f} s")
    return "\n".join(lines)


def _take(folder: Path) -> None:
    """Make the folder, or clear an earlier demo out of it; leave any other as it is."""
    from geofuse.errors import ParameterError

    mark = folder / _MARK
    if folder.exists() and not folder.is_dir():
        raise ParameterError(
            f"expected a folder, found the file {folder}; choose another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    others = [path.name for path in folder.iterdir()]
    if others and not mark.is_file():
        raise ParameterError(
            "expected an empty folder or one of an earlier demo, found "
            f"{sorted(others)[0]} in {folder}; choose another folder"
        )
    inputs = folder / "inputs"
    if inputs.is_symlink():
        raise ParameterError(
            f"expected the demo's own folder, found the link {inputs}; choose another"
        )
    mark.write_text("geofuse demo may replace its own files in this folder.\n")
    for pattern in ("fine_*.tif", "coarse_*.tif", "truth_*.tif"):
        for path in inputs.glob(pattern):
            path.unlink()


def _write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o666 & ~_mask())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _mask() -> int:
    """What the user takes away from the rights of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn failures of the disk into an error that says what to do."""
    from geofuse.errors import WriteError

    try:
        yield
    except OSError as error:
        raise WriteError(
            f"expected to write into {folder}, found that it cannot be done ({error}); "
            "choose a folder that is writable, on a disk with space"
        ) from error
