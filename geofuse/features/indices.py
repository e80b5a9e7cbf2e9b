"""Spectral and radar indices by name, all in one pass over the image.

    indices(image, ["ndvi", "mndwi", "savi"], L=0.5)
    indices(image, ["ndvi", "mine = (nir - 2 * red) / (nir + k)"], k=0.1)

Some sixty are built in (`geofuse.features.index_table`); with the package spyndex
installed its whole catalogue is there too, under the catalogue's own names. A formula
says what it needs: names are bands by common name, or constants.

Which index is meant: a built-in name ('ndvi') or its name in the catalogue ('NDVI')
gives the built-in; other names are looked up in the catalogue, first as they are, then
without regard to case if only one fits. Beware of 'RVI', which the catalogue has for a
ratio of red-edge and red, and 'rvi', the radar vegetation index.

Missing values: NaN where a band that the formula names is invalid, where a denominator
is 0, and where a root or a logarithm does not exist. Never infinite.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from typing_extensions import override

from geofuse.errors import (
    BandMismatchError,
    ParameterError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.features.extractor import (
    FeatureExtractor,
    band_names,
    checked,
    map_features,
    template_of,
)
from geofuse.features.formulas import Number, Tree, names_in, parse, substitute
from geofuse.features.fused import Program, fuse, run
from geofuse.features.index_table import ALSO_CALLED, DEFAULTS, INDICES, Index

#: Side of the tiles: at 512 the memory of a tile's result is used again for the next.
INDEX_TILE = 512

#: Bands of the catalogue -> common names.
_CODES = {
    "A": "coastal",
    "B": "blue",
    "G": "green",
    "G1": "green05",
    "Y": "yellow",
    "R": "red",
    "RE1": "rededge1",
    "RE2": "rededge2",
    "RE3": "rededge3",
    "N": "nir",
    "N2": "nir08",
    "WV": "nir09",
    "S1": "swir1",
    "S2": "swir2",
    "T": "lwir",
    "T1": "lwir11",
    "T2": "lwir12",
    "VV": "vv",
    "VH": "vh",
    "HV": "hv",
    "HH": "hh",
}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def indices(
    image: xr.DataArray, names: Sequence[str] | str, **constants: float
) -> xr.DataArray:
    """Compute indices of an image, lazily and in one pass.

    Args:
        image: Image (band, y, x) with bands by common name (red, nir, swir1, vv, …):
            reflectance, or linear power for radar; NaN where invalid.
        names: Names of indices, and formulas of one's own as 'name = formula'.
        **constants: Values of constants of the formulas: L, g, C1, …; one name has one
            value in all of them. By default those of the catalogue.

    Returns:
        Indices (feature, y, x), float32, on the grid of the image, named as asked for.
        NaN where a needed band is invalid, a denominator is 0 or a root does not exist.

    Raises:
        UnknownNameError: There is no such index, or no formula has such a constant.
        BandMismatchError: The image lacks a band; the message says which index needs
            it.
        ParameterError: A formula is not arithmetic, a constant has no value, radar is
            in dB, or the image is not (band, y, x) of real numbers.

    >>> import numpy as np, xarray as xr
    >>> coords = {"band": ["red", "nir"], "y": [0.5], "x": [0.5, 1.5]}
    >>> image = xr.DataArray([[[5, 0]], [[15, 0]]], coords, ("band", "y", "x"))
    >>> indices(image, ["ndvi", "twice = 2 * nir"]).values.tolist()
    [[[0.5, nan]], [[30.0, 0.0]]]
    """
    return Indices(names, constants).extract(image)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Indices(FeatureExtractor):
    """Spectral and radar indices of an image; see `indices`.

    Args:
        names: Names of indices, and formulas of one's own as 'name = formula'.
        constants: (name, value) of constants that shall not have their default; a
            mapping is taken too.
    """

    names: tuple[str, ...]
    constants: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Check the names and the formulas, without an image."""
        names: Any = self.names
        names = (names,) if isinstance(names, str) else tuple(names)
        constants: Any = self.constants
        pairs = constants.items() if isinstance(constants, Mapping) else constants
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "constants", tuple((n, _real(n, v)) for n, v in pairs))
        if not names:
            raise ParameterError(
                "expected at least one index, found none; for example 'ndvi'"
            )
        for name in names:
            parse(find_index(name).formula)

    @override
    def extract(
        self, image: xr.DataArray, *, tile: int | None = INDEX_TILE
    ) -> xr.DataArray:
        asked = [find_index(name) for name in self.names]
        image = checked(image)
        program, positions = _compile(asked, dict(self.constants), image)
        template = template_of(
            image,
            [index.name for index in asked],
            extractor=self,
            long_name="spectral indices",
        )
        return map_features(
            functools.partial(_run, program),
            image.isel(band=positions),
            template,
            halo=0,
            tile=tile,
        )


def can_compute(name: str, image: xr.DataArray) -> bool:
    """Whether an image has the bands of an index.

    Raises:
        UnknownNameError: There is no such index.
    """
    words = names_in(parse(find_index(name).formula))
    placed = [word for word in words if _place(word, image) is not None]
    return bool(placed) and all(w in placed or w in constants() for w in words)


def find_index(name: str) -> Index:
    """Look up an index, or read a formula of one's own.

    Args:
        name: Name of an index, or 'name = formula'.

    Raises:
        UnknownNameError: There is no index of that name.
        ParameterError: 'name = formula' has no proper name.

    >>> find_index("ndvi").formula
    '(nir - red) / (nir + red)'
    """
    if not isinstance(name, str):
        raise ParameterError(
            f"expected names of indices as text, found {type(name).__name__}; for "
            "example 'ndvi'"
        )
    if "=" in name:
        own, _, formula = (part.strip() for part in name.partition("="))
        if not _WORD.fullmatch(own):
            raise ParameterError(
                f"expected 'name = formula' with a name of letters, digits and _, "
                f"found {name[:60]!r}; for example 'mine = (nir - red) / nir'"
            )
        return Index(own, formula, "own")
    name = name.strip()
    if name in INDICES:
        return INDICES[name]
    for index in INDICES.values():
        if name == index.catalogue:
            return index
    known = catalogue()
    if name in known:
        return known[name]
    built_in = {index.catalogue for index in INDICES.values()}
    alike = [
        index
        for other, index in known.items()
        if other.casefold() == name.casefold() and other not in built_in
    ]
    if len(alike) == 1:
        return alike[0]
    more = "" if known else "; 'pip install spyndex' brings some 200 more"
    raise UnknownNameError(
        f"expected an index, or 'name = formula', found {name!r}; "
        f"{did_you_mean(name, {*INDICES, *known} - built_in)}{more}"
    )


@functools.cache
def catalogue() -> dict[str, Index]:
    """The spyndex catalogue by its own names, with bands by common name.

    Kernels of two bands are written out as radial basis functions of length `sigma`.
    Empty where spyndex (0.12 or later) is not installed.
    """
    try:
        import spyndex
    except ImportError:
        return {}
    found = {}
    for name, entry in spyndex.indices.items():
        formula = _WORD.sub(lambda word: _common(word.group()), entry.formula)
        found[name] = Index(
            name,
            formula,
            entry.application_domain,
            entry.long_name,
            entry.reference,
            name,
        )
    return found


@functools.cache
def constants() -> dict[str, float | None]:
    """Constants of formulas and their defaults; None for those that must be given."""
    found: dict[str, float | None] = {}
    if catalogue():
        import spyndex

        for name, entry in spyndex.constants.items():
            found[name] = None if entry.default is None else float(entry.default)
    return {**found, **DEFAULTS}


def _common(word: str) -> str:
    """A word of a formula of the catalogue in common names."""
    if word in _CODES:
        return _CODES[word]
    if len(word) == 3 and word[0] == "k":
        first, second = (_CODES.get(letter, letter) for letter in word[1:])
        return f"exp(-({first} - {second}) ** 2 / (2 * sigma ** 2))"
    return word


def _real(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ParameterError(
            f"expected a finite number for the constant {name!r}, found {value!r}; for "
            f"example {name}=0.5"
        )
    return number


def _compile(
    asked: Sequence[Index], given: dict[str, float], image: xr.DataArray
) -> tuple[Program, list[int]]:
    """Make one program of indices; also the positions of the bands that it loads."""
    positions: dict[str, int] = {}
    missing: dict[str, list[str]] = {}
    used: set[str] = set()
    trees: list[Tree] = []
    for index in asked:
        tree = parse(index.formula)
        values: dict[str, Tree] = {}
        for word in names_in(tree):
            place, default = _place(word, image), constants().get(word)
            if place is not None and not _is_constant(word, index, given):
                positions[word] = place
            elif word in given:
                values[word] = Number(given[word])
                used.add(word)
            elif default is not None:
                values[word] = Number(default)
            elif word in constants():
                raise ParameterError(
                    f"expected a value for the constant {word!r}, which index "
                    f"{index.name!r} needs, found none; give {word}=…"
                )
            else:
                missing.setdefault(word, []).append(index.name)
        if len(values) == len(names_in(tree)):
            raise ParameterError(
                f"expected a formula with at least one band, found {index.name!r} = "
                f"{index.formula}; name a band: {', '.join(band_names(image))}"
            )
        trees.append(substitute(tree, values))
    if missing:
        raise _missing(missing, image)
    if unused := set(given) - used:
        name = sorted(unused)[0]
        known = {word for index in asked for word in names_in(parse(index.formula))}
        raise UnknownNameError(
            f"expected constants of the formulas asked for, found {name!r}; "
            f"{did_you_mean(name, known - set(positions))}"
        )
    _refuse_decibels(asked, image)
    loaded = sorted(set(positions.values()))
    order = {word: loaded.index(place) for word, place in positions.items()}
    return fuse(trees, order), loaded


def _is_constant(word: str, index: Index, given: Mapping[str, float]) -> bool:
    """Whether a word that is also the name of a band means a constant."""
    if index.domain != "own":
        return word in constants()
    if word in given:
        raise ParameterError(
            f"expected {word!r} in {index.name!r} to be either a band or a constant, "
            "found both; call the constant something else"
        )
    return False


def _place(word: str, image: xr.DataArray) -> int | None:
    """Position of a band by its name, regardless of case, or one it also goes by."""
    names = band_names(image)
    plain = [name.casefold() for name in names]
    for candidate in (word, *ALSO_CALLED.get(word, ())):
        for known in (names, plain):
            if known.count(candidate) == 1:
                return known.index(candidate)
            if known.count(candidate) > 1:
                raise BandMismatchError(
                    f"expected one band {candidate!r}, found it "
                    f"{known.count(candidate)} times in {', '.join(names)}; give each "
                    "band a name of its own"
                )
    return None


def _missing(missing: dict[str, list[str]], image: xr.DataArray) -> BandMismatchError:
    needs = "; ".join(f"{band} (for {', '.join(by)})" for band, by in missing.items())
    names = band_names(image)
    return BandMismatchError(
        f"expected the bands {needs}, found {', '.join(names)}; leave these indices "
        "out, or give the bands their common names. For "
        f"{next(iter(missing))!r}: {did_you_mean(next(iter(missing)), names)}"
    )


def _refuse_decibels(asked: Sequence[Index], image: xr.DataArray) -> None:
    radar = [index.name for index in asked if index.domain == "radar"]
    if radar and str(image.attrs.get("units", "")).casefold() == "db":
        raise ParameterError(
            f"expected linear power for {', '.join(radar)}, found an image in dB; "
            "convert it: 10 ** (image / 10)"
        )


def _run(program: Program, window: np.ndarray, shared: Any) -> np.ndarray:
    return run(program, window)
