"""The scores of several methods on one scene, as a page to read.

    page(results, inputs=…, reference=…, title=…)  ->  one HTML text

The page is a single file: pictures, styles and the few lines of script are inside,
and it forbids the browser to load anything from elsewhere. What it says in words is
computed from the numbers that it shows. All text that comes from outside (names, bands,
paths) is escaped. It has a light and a dark face, and can be printed and read on a
phone.
"""

import base64
import hashlib
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

import rasterio
import xarray as xr

import geofuse
from geofuse import plots
from geofuse.errors import ParameterError
from geofuse.evaluation.gallery import Gallery
from geofuse.evaluation.result import Result as Result
from geofuse.evaluation.tables import all_scores, method_scores
from geofuse.evaluation.verdict import verdict
from geofuse.evaluation.wording import listed, safe
from geofuse.rasters.grid import crs_name, grid_of

_PACKAGES = ("numpy", "xarray", "dask", "jax", "rasterio", "matplotlib", "pandas")


def page(
    results: Sequence[Result],
    *,
    inputs: Mapping[str, xr.DataArray],
    reference: xr.DataArray,
    title: str,
    about: Sequence[str] = (),
    unit: str = "reflectance",
    band: str | None = None,
) -> str:
    """Write the page.

    Args:
        results: What each method made of the scene.
        inputs: Images (band, y, x) that the methods saw, by the name to show.
        reference: The true image, on the grid of the products.
        title: Title of the page.
        about: Paragraphs that say where the scene comes from.
        unit: Unit of the images.
        band: Band of the error maps; by default the one with the largest error.

    Returns:
        HTML, about 0.4 MB a picture where they are full of detail.

    Raises:
        ParameterError: There is no result, or two have one name.
        GridMismatchError: A product does not lie on the grid of the reference.
        CRSMismatchError: It has another CRS.
        UnknownNameError: There is no such band.
        BandMismatchError: The images have no band in common.
    """
    names = [result.name for result in results]
    if not names or len(set(names)) < len(names):
        raise ParameterError(
            f"expected one or more results, each with its own name, found {names}; "
            "rename or add one"
        )
    gallery = Gallery(results, inputs, reference, band)
    sections = [
        ("scores", "Scores", method_scores(results, unit)),
        ("compare", "Compare", gallery.compare()),
        ("inputs", "Inputs", gallery.inputs()),
        ("products", "Truth and products", gallery.products()),
        ("errors", "Errors", gallery.errors(unit)),
        ("again", "How to do it again", _commands(results)),
        ("numbers", "All numbers", all_scores(results, unit)),
        ("versions", "Versions", _definitions(versions())),
    ]
    style = _read("report.css") + gallery.style()
    script = _read("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    words = verdict(
        results, pixels=reference.sizes["y"] * reference.sizes["x"], unit=unit
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="generator" content="geofuse {geofuse.__version__}">',
            '<link rel="icon" href="data:,">',
            f"<title>{safe(title)}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            f"<h1>{safe(title)}</h1>",
            f'<p class="verdict">{safe(words[0])}</p>',
            *_paragraphs(words[1:]),
            *_paragraphs([*about, _grid_in_words(reference)]),
            "<nav>",
            *(f'<a href="#{key}">{safe(name)}</a>' for key, name, _ in sections),
            "</nav>",
            *(
                f'<section id="{key}">\n<h2>{safe(name)}</h2>\n{content}\n</section>'
                for key, name, content in sections
            ),
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def versions() -> dict[str, str]:
    """What a result depends on beside its inputs: versions and the kind of machine."""
    found = {"geofuse": geofuse.__version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    found["GDAL"] = rasterio.__gdal_version__
    system = f"{platform.system()} {platform.machine()}"
    found["machine"] = f"{system}, {os.cpu_count()} processors"
    return found


def _commands(results: Sequence[Result]) -> str:
    parts = []
    for result in results:
        parts.append(f"<h3>{safe(result.name)}</h3>")
        if result.method:
            parts.append(f"<p><code>{safe(result.method)}</code></p>")
        if result.command:
            parts.append(f"<pre><code>{safe(_in_lines(result.command))}</code></pre>")
    return "\n".join(parts)


def _in_lines(command: Sequence[str]) -> str:
    """A command for a shell, with a line for each option."""
    text = ""
    for word in command:
        option = word.startswith("-") and len(word) > 1 and not word[1].isdigit()
        text += (" \\\n    " if option else " ") + shlex.quote(word)
    return text.strip()


def _definitions(entries: Mapping[str, str]) -> str:
    pairs = [f"<dt>{safe(k)}</dt><dd>{safe(v)}</dd>" for k, v in entries.items()]
    return "<dl>\n" + "\n".join(pairs) + "\n</dl>"


def _grid_in_words(image: xr.DataArray) -> str:
    grid = grid_of(image)
    rows, columns = grid.shape
    gsd = plots.pixel_in_words(image)
    bands = listed([str(band) for band in image["band"].values])
    return (
        f"The grid has {columns} x {rows} pixels of {gsd} in {crs_name(grid)}; {bands}."
    )


def _paragraphs(texts: Iterable[str]) -> list[str]:
    return [f"<p>{safe(text)}</p>" for text in texts]


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
