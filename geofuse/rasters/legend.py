"""The legend of a map: which classes there are, their codes in files, and their colors.

    number  0        1        2        3        position in the legend: what arrays hold
    code    10       20       30       80       what a file of labels or a map holds
    name    trees    shrubs   grass    water
    color   #006400  #ffbb22  #ffff4c  #0064c8

Where nothing is known of a pixel its number is -1, whatever the file says.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean

#: The number of a pixel without a label.
UNLABELED = -1

#: Colors of classes that most legends have, by name.
COLORS = {
    "water": "#419bdf",
    "trees": "#397d49",
    "forest": "#397d49",
    "grass": "#88b053",
    "flooded vegetation": "#7a87c6",
    "wetland": "#7a87c6",
    "crops": "#e49635",
    "crop": "#e49635",
    "cropland": "#e49635",
    "shrubs": "#dfc35a",
    "rangeland": "#dfc35a",
    "built": "#c4281b",
    "urban": "#c4281b",
    "bare": "#a59b8f",
    "snow": "#b39fe1",
    "ice": "#b39fe1",
    "clouds": "#d9d9d9",
}


#: Colors of classes of other names: easy to tell apart, also for the color-blind.
_OTHERS = (
    "#332288",
    "#88ccee",
    "#44aa99",
    "#117733",
    "#999933",
    "#ddcc77",
    "#cc6677",
    "#882255",
    "#aa4499",
    "#6699cc",
    "#661100",
    "#888888",
)


@dataclass(frozen=True)
class Legend:
    """Classes in order, with their codes and colors.

    Args:
        names: A name for each class, each once.
        codes: What a file holds for each class, from 0 on; by default 0, 1, 2, …
        colors: A color for each class, "#rrggbb"; by default by its name, or of a set of
            colors that are easy to tell apart.

    Raises:
        ParameterError: Names or codes are not one a class, or come twice; a code is
            negative; a color is none.

    >>> legend = Legend(("water", "crops"), codes=(1, 4))
    >>> legend.colors
    ('#419bdf', '#e49635')
    >>> legend.number("crops")
    1
    """

    names: tuple[str, ...]
    codes: tuple[int, ...] = ()
    colors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in codes and colors, and check all."""
        names = tuple(str(name) for name in self.names)
        codes = tuple(int(code) for code in self.codes) or tuple(range(len(names)))
        colors = tuple(self.colors) or _colors_of(names)
        for what, found in (("name", names), ("code", codes)):
            if len(found) != len(names) or len(set(found)) != len(found):
                raise ParameterError(
                    f"expected one {what} for each of {len(names)} classes, each once, "
                    f"found {found}; write Legend(('water', 'crops'), codes=(1, 4))"
                )
        if not names or min(codes) < 0:
            raise ParameterError(
                f"expected at least one class and codes from 0 on, found {codes}; "
                "negative numbers are for pixels without a label"
            )
        if len(colors) != len(names):
            raise ParameterError(
                f"expected a color for each of {len(names)} classes, found {len(colors)}; "
                "leave colors out to have them chosen"
            )
        for field, value in (("names", names), ("codes", codes)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "colors", tuple(map(_checked, colors)))

    def __len__(self) -> int:
        return len(self.names)

    def number(self, name: str) -> int:
        """The number of a class.

        Raises:
            UnknownNameError: There is no class of that name.
        """
        if name not in self.names:
            raise UnknownNameError(
                f"expected a class of the legend, found {name!r}; "
                f"{did_you_mean(name, self.names)}"
            )
        return self.names.index(name)

    def attributes(self) -> dict[str, object]:
        """The legend as CF attributes of a map of class numbers."""
        return {
            "flag_values": list(range(len(self))),
            "flag_meanings": " ".join(name.replace(" ", "_") for name in self.names),
            "flag_colors": " ".join(self.colors),
            "class_names": json.dumps(self.names),
            "class_codes": ", ".join(map(str, self.codes)),
        }


def legend_of(classes: Legend | Sequence[str]) -> Legend:
    """A legend from a legend or from names alone.

    >>> legend_of(["water", "land"]).codes
    (0, 1)
    """
    return classes if isinstance(classes, Legend) else Legend(tuple(classes))


def stored_legend(attributes: Mapping[str, Any]) -> Legend | None:
    """The legend in the attributes of labels or the tags of a file; None if there is none.

    >>> legend = Legend(("water", "crops, winter"), codes=(1, 4))
    >>> stored_legend(legend.attributes()) == legend
    True
    """
    try:
        names = tuple(map(str, json.loads(attributes["class_names"])))
        codes = tuple(int(code) for code in str(attributes["class_codes"]).split(", "))
        return Legend(names, codes, tuple(str(attributes["flag_colors"]).split()))
    except (KeyError, TypeError, ValueError):  # ParameterError is a ValueError
        return None


def _colors_of(names: Sequence[str]) -> tuple[str, ...]:
    """Colors by name; for other names those of `_OTHERS`, in turn."""
    unnamed = [name for name in names if name.casefold() not in COLORS]
    return tuple(
        COLORS.get(name.casefold()) or _OTHERS[unnamed.index(name) % len(_OTHERS)]
        for name in names
    )


def _checked(color: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", str(color)):
        raise ParameterError(
            f"expected colors as '#rrggbb', found {color!r}; for instance '#397d49'"
        )
    return str(color).lower()
