"""Methods that are other programs, scored like those of geofuse.

    FromFolder("theirs", "{case}.tif")                 a file a case, made by whatever program
    FromCommand(("their-tool", "{fine_0}", "{coarse_0}", "{coarse}", "{out}"))
                                                       a program that is run for each case

    compare({"theirs": FromFolder("theirs")}, test=cases)

A prediction is a GeoTIFF on the grid of the fine images, of their bands by name or in their
order, NaN or nodata where there is none; `case` in a file's name is `file_name(case)`. A
command is a list of words in which these stand for files and facts of the case; no shell
reads them:

    {fine_0} {coarse_0} {date_0}    files of the first pair by date, and its day; {fine_1} …
    {coarse} {date}                 file of the prediction date, and its day
    {classes}                       file of the class map
    {scale}                         coarse GSD / fine GSD
    {out}                           where the program is to write the prediction
    {folder}                        the folder that all of these files are in

Files are GeoTIFFs of float32 reflectance, NaN where invalid, all on the fine grid. These are
no `FusionMethod`: they have no tiles and learn nothing here. What a program was trained on
elsewhere, no check of leaks can see.
"""

import abc
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from typing_extensions import override

from geofuse.errors import (
    BandMismatchError,
    ParameterError,
    ProgramError,
    RasterReadError,
    TooFewPairsError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.pairs import FusionInputs
from geofuse.rasters.optical import open_optical
from geofuse.rasters.source import inspect
from geofuse.rasters.write import write_cog

_FACTS = ("coarse", "classes", "date", "scale", "out", "folder")
_OF_PAIRS = ("fine", "coarse", "date")
_PLACE = re.compile(r"\{(\w+)\}")
#: Characters of a program's messages that an error repeats.
_TOLD = 300


class OutsideMethod(abc.ABC):
    """Another program's estimate of a fine image, from what a method may look at."""

    @abc.abstractmethod
    def image(self, case: str, inputs: FusionInputs, folder: Path) -> xr.DataArray:
        """The fine image of the prediction date, (band, y, x), NaN where there is none.

        Args:
            case: Name of the case.
            inputs: Its inputs.
            folder: For files that last as long as the image is needed.
        """

    @abc.abstractmethod
    def state(self, case: str, inputs: FusionInputs) -> str:
        """What the image depends on beyond the inputs and the fields of the method.

        Where it changes, the case is scored anew.
        """


@dataclass(frozen=True)
class FromFolder(OutsideMethod):
    """Predictions that are there already, a file a case.

    Args:
        folder: Where they are.
        pattern: Name of a file: `{case}` and `{date}` stand for the name of the case, as
            `file_name` writes it, and the prediction date.
        sensor: How their numbers become reflectance; see `open_optical`.

    Raises:
        UnknownNameError: The pattern has another placeholder.
    """

    folder: str
    pattern: str = "{case}.tif"
    sensor: str = "generic"

    def __post_init__(self) -> None:
        """Check the pattern."""
        _check_places([self.pattern], ("case", "date"))

    def path(self, case: str, inputs: FusionInputs) -> Path:
        """The file of a case."""
        facts = {"case": file_name(case), "date": str(inputs.date)}
        name = _PLACE.sub(lambda found: facts[found[1]], self.pattern)
        return Path(self.folder) / name

    @override
    def image(self, case: str, inputs: FusionInputs, folder: Path) -> xr.DataArray:
        path = self.path(case, inputs)
        if not path.is_file():
            raise RasterReadError(
                f"expected the prediction of {case} at {path}, found no such file; write "
                "it there, or change the pattern"
            )
        return _opened(path, self.sensor, inputs)

    @override
    def state(self, case: str, inputs: FusionInputs) -> str:
        return _mark(self.path(case, inputs))


@dataclass(frozen=True)
class FromCommand(OutsideMethod):
    """A program that is run for each case; its seconds are those of the whole run.

    Args:
        arguments: The program and its words, with placeholders; see above.
        timeout: Seconds after which it is stopped.
        sensor: How the numbers that it writes become reflectance; see `open_optical`.

    Raises:
        ParameterError: There is no word, none names the output, or the timeout is not
            positive.
        UnknownNameError: There is no such placeholder.
    """

    arguments: tuple[str, ...]
    timeout: float = 3600.0
    sensor: str = "generic"

    def __post_init__(self) -> None:
        """Check the words."""
        words = "".join(self.arguments)
        if not self.timeout > 0 or not ("{out}" in words or "{folder}" in words):
            raise ParameterError(
                "expected a command that names {out}, and a timeout above 0 seconds, found "
                f"{self.arguments} and {self.timeout}"
            )
        _check_places(self.arguments, _FACTS, _OF_PAIRS)

    @override
    def image(self, case: str, inputs: FusionInputs, folder: Path) -> xr.DataArray:
        place = folder / f"command-{file_name(case)}-{os.urandom(4).hex()}"
        place.mkdir()
        facts = _written(inputs, place)
        words = [_filled(word, facts, len(inputs.pairs)) for word in self.arguments]
        _run(words, place / "messages.txt", self.timeout)
        out = Path(facts["out"])
        if not out.is_file():
            raise ProgramError(
                f"expected {words[0]} to write {out.name}, found no such file; "
                f"{_messages(place / 'messages.txt')}"
            )
        return _opened(out, self.sensor, inputs)

    @override
    def state(self, case: str, inputs: FusionInputs) -> str:
        # The program, and scripts among its words: a new version is run anew.
        files = [shutil.which(self.arguments[0]), *self.arguments[1:]]
        return " ".join(_mark(Path(file)) for file in files if file)


def file_name(case: str) -> str:
    """The name of a case in a file's name: letters, digits, dots and dashes.

    >>> file_name("2021-05-01 > 2021-07-01")
    '2021-05-01-2021-07-01'
    """
    return re.sub(r"[^\w.]+", "-", case, flags=re.ASCII).strip("-.")


def _check_places(
    words: list[str] | tuple[str, ...],
    names: tuple[str, ...],
    numbered: tuple[str, ...] = (),
) -> None:
    for word in words:
        for name in _PLACE.findall(word):
            start, _, number = name.rpartition("_")
            if name not in names and not (start in numbered and number.isdigit()):
                known = [*names, *(f"{one}_0" for one in numbered)]
                raise UnknownNameError(
                    f"expected a placeholder, found {{{name}}} in {word!r}; "
                    f"{did_you_mean(name, known)}"
                )


def _written(inputs: FusionInputs, folder: Path) -> dict[str, str]:
    """Write the inputs; what each placeholder stands for."""
    facts = {"folder": str(folder), "out": str(folder / "out.tif")}
    facts["date"] = str(inputs.date)
    if inputs.scale is not None:
        facts["scale"] = str(inputs.scale)
    for name, image in inputs.rasters().items():
        facts[name] = str(write_cog(image, folder / f"{name}.tif"))
    for number, pair in enumerate(inputs.pairs):
        facts[f"date_{number}"] = str(pair.date)
    return facts


def _filled(word: str, facts: dict[str, str], pairs: int) -> str:
    for name in _PLACE.findall(word):
        if name in facts:
            continue
        if name in _FACTS:
            raise ParameterError(
                f"expected inputs that tell {name}, which the command needs, found none; "
                f"give it to FusionInputs, or leave out {{{name}}}"
            )
        raise TooFewPairsError(
            f"expected a pair for {{{name}}}, found {pairs}; numbers begin at 0"
        )
    return _PLACE.sub(lambda found: facts[found[1]], word)


def _run(words: list[str], messages: Path, timeout: float) -> None:
    """Run a program without a shell, and stop it and what it started when time is up."""
    with messages.open("wb") as log:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ProgramError(
                f"expected a program that can be run, found {words[0]!r} ({error}); "
                "install it, or give its whole path"
            ) from error
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            _stop(process)
            raise ProgramError(
                f"expected {words[0]} to end within {timeout:g} s, found it still at work; "
                "give it more time, or a smaller case"
            ) from error
        except BaseException:
            _stop(process)
            raise
    if code:
        raise ProgramError(
            f"expected {words[0]} to end with code 0, found {code}; {_messages(messages)}"
        )


def _stop(process: subprocess.Popen) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _messages(path: Path) -> str:
    """The end of what a program said."""
    said = " ".join(path.read_text(errors="replace").split())
    return f"it said: {said[-_TOLD:]}" if said else "it said nothing"


def _opened(path: Path, sensor: str, inputs: FusionInputs) -> xr.DataArray:
    """An image of the bands of the inputs: by name where the file names them all."""
    file = inspect(path)
    wanted = list(inputs.bands)
    named = [name for name in file.descriptions if name]
    if len(set(named)) == file.shape[0] and set(wanted) <= set(named):
        image = open_optical(path, sensor, bands=named)
        image = image.isel(band=[named.index(band) for band in wanted])
        return _dated(image, inputs)
    if file.shape[0] != len(wanted):
        raise BandMismatchError(
            f"expected the {len(wanted)} bands {', '.join(wanted)} in {path}, found "
            f"{file.shape[0]}; write these, in this order or with their names"
        )
    return _dated(open_optical(path, sensor, bands=wanted), inputs)


def _dated(image: xr.DataArray, inputs: FusionInputs) -> xr.DataArray:
    """The image as of the prediction date: programs copy the tags of a base image."""
    return image.assign_coords(time=inputs.date.astype("datetime64[ns]"))


def _mark(path: Path) -> str:
    """What tells a version of a file from another."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return "none"
    return f"{found.st_size} {found.st_mtime_ns}"
