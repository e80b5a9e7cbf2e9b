"""The pictures of a report, each inside the page as a PNG."""

import base64
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import UInt8
from matplotlib.colors import to_hex

from geofuse import plots
from geofuse.evaluation.result import Result
from geofuse.evaluation.wording import number, or_infinite, percent, safe

#: Most pixels on a side of a picture in the page: few products may be drawn larger.
LARGE, SMALL, FEW = 512, 320, 6


class Gallery:
    """The pictures of a page; all images share one stretch, all errors another.

    Args:
        results: What each method made of the scene.
        inputs: Images that the methods saw, by the name to show.
        reference: The true image.
        band: Band of the error maps; by default the one with the largest error.
    """

    def __init__(
        self,
        results: Sequence[Result],
        inputs: Mapping[str, xr.DataArray],
        reference: xr.DataArray,
        band: str | None,
    ) -> None:
        """Draw the pictures."""
        most = LARGE if len(results) <= FEW else SMALL
        self.results = results
        self.small = max(reference.sizes["y"], reference.sizes["x"]) < 256
        truth = plots.decimated(reference, most=most)
        views = {
            f"product {r.name}": plots.decimated(r.product, most=most) for r in results
        }
        wrong = {r.name: views[f"product {r.name}"] for r in results}
        self.wrong = plots.errors(wrong, truth, band=band, most=most)
        views |= {
            f"input {name}": plots.decimated(image, most=most)
            for name, image in inputs.items()
        }
        self.colors = plots.composite({"truth": truth, **views}, most=most)
        self.names = list(inputs)
        self.numbers: dict[str, int] = {}

    def inputs(self) -> str:
        """What the methods saw."""
        figures = [
            self._figure(f"input {name}", name, self.colors.pictures[f"input {name}"])
            for name in self.names
        ]
        return self._colors_in_words() + self._grid(figures)

    def products(self) -> str:
        """The truth, and what each method made of it."""
        truth = self._figure("truth", "truth", self.colors.pictures["truth"])
        figures = [
            self._figure(
                f"product {result.name}",
                result.name,
                self.colors.pictures[f"product {result.name}"],
                f"RMSE {number(result.value('rmse'))}",
            )
            for result in self.results
        ]
        return self._grid([truth, *figures])

    def errors(self, unit: str) -> str:
        """The error of each method, with the key to the colors."""
        limit = f"{self.wrong.limit:g}"
        key = (
            f"<p>Predicted minus true in {safe(self.wrong.band)}: blue is too low, "
            "red too high.</p>\n"
            f'<p class="key">&minus;{limit} <i></i> +{limit} {safe(unit)}</p>'
        )
        figures = []
        for result in self.results:
            rmse = result.value("rmse", self.wrong.band)
            bias = result.value("bias", self.wrong.band)
            note = f"RMSE {number(rmse)}, bias {number(bias, digits=2)}"
            picture = self.wrong.pictures[result.name]
            name = f"error of {result.name}"
            figures.append(self._figure(f"error {result.name}", name, picture, note))
        return key + self._grid(figures)

    def compare(self) -> str:
        """Two pictures over one another; the script fills it."""
        ranked = sorted(self.results, key=lambda r: or_infinite(r.value("rmse")))
        left, right = self._key("truth"), self._key(f"product {ranked[0].name}")
        small = " small" if self.small else ""
        return (
            f'<div class="compare{small}" hidden data-left="{left}" '
            f'data-right="{right}">\n'
            '<div class="controls">\n'
            '<label>Left <select class="left"></select></label>\n'
            '<label>Right <select class="right"></select></label>\n'
            '<button type="button">Blink</button>\n</div>\n'
            '<div class="sides"><span></span><span></span></div>\n'
            '<div class="stage"><img class="picture lower" alt="" draggable="false">'
            '<img class="picture upper" alt="" draggable="false">'
            '<div class="seam"></div></div>\n'
            '<input type="range" min="0" max="100" step="0.5" value="50" '
            'aria-label="Where the left picture ends">\n'
            "</div>\n"
            "<noscript><p>With scripts turned off there is nothing to swipe; the "
            "pictures are below.</p></noscript>"
        )

    def style(self) -> str:
        """The colors of the errors, as a gradient for the key."""
        colors = matplotlib.colormaps[plots.ERROR_COLORS](np.linspace(0, 1, 17))
        stops = ", ".join(to_hex(color) for color in colors)
        return (
            f".key i {{ background: linear-gradient(90deg, {stops}); "
            "print-color-adjust: exact; }\n"
        )

    def _colors_in_words(self) -> str:
        bands = [safe(band) for band in self.colors.bands]
        if len(bands) == 1:
            return f'<p class="note">Shown: {bands[0]}. Hatched: invalid.</p>\n'
        return (
            f'<p class="note">Red, green and blue show {", ".join(bands)}, in one '
            "stretch for all pictures. Hatched: invalid.</p>\n"
        )

    def _grid(self, figures: Iterable[str]) -> str:
        small = " small" if self.small else ""
        return f'<div class="pictures{small}">\n' + "\n".join(figures) + "\n</div>"

    def _figure(
        self, key: str, name: str, picture: UInt8[np.ndarray, "y x 4"], note: str = ""
    ) -> str:
        valid = percent((picture[..., 3] > 0).mean())
        data = base64.b64encode(plots.png(picture)).decode()
        notes = [note] if note else []
        if valid != "100 %" and not key.startswith("error"):
            notes.append(f"{valid} valid")
        height, width = picture.shape[:2]
        size = f'width="{width}" height="{height}"'
        return (
            f'<figure id="{self._key(key)}">'
            f'<img class="picture" alt="{safe(name)}" {size} '
            f'src="data:image/png;base64,{data}">'
            f"<figcaption><b>{safe(name)}</b><br>"
            f"{safe('; '.join(notes))}</figcaption></figure>"
        )

    def _key(self, key: str) -> str:
        """An identifier without any letter of a name."""
        return f"picture-{self.numbers.setdefault(key, len(self.numbers))}"
