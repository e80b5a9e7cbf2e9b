"""Is one prediction better than another, or was it lucky? A paired bootstrap over blocks.

Errors of neighboring pixels are alike, so that a scene tells much less than its number of
pixels says. It is cut into square blocks; as many blocks are drawn again and again, with
replacement, the same ones for both predictions, and each draw gives a ratio of their RMSE.
The spread of these ratios is the uncertainty of the one that was found:

    ratio = sqrt(sum of e_1^2 / sum of e_2^2)      below 1: the first is better

It holds for this scene and date. That another scene says the same, no bootstrap can tell.

References: H. R. Kuensch (1989): The jackknife and the bootstrap for general stationary
observations. Annals of Statistics 17, 1217-1241.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from geofuse.errors import BandMismatchError, ParameterError
from geofuse.pairs import check_image
from geofuse.rasters.grid import check_same_grid
from geofuse.tiling import reduce_tiles


class BlockErrors(NamedTuple):
    """Squared errors of a prediction, summed over the blocks of a scene.

    Attributes:
        squared: Sum of the squared errors, squared units.
        pixels: How many pixels that is; those valid in all bands of both images.
        bands: Names of the bands.
    """

    squared: Float[np.ndarray, "band block"]
    pixels: Float[np.ndarray, " block"]
    bands: tuple[str, ...]


def block_errors(
    predicted: xr.DataArray,
    reference: xr.DataArray,
    *,
    block: int = 32,
    valid: xr.DataArray | None = None,
) -> BlockErrors:
    """Sum the squared errors of a prediction over square blocks.

    Both images may be lazy and of any size: they are read once, tile by tile.

    Args:
        predicted: Image (band, y, x), NaN where invalid.
        reference: The true image, on the same grid, of the same bands in the same order.
        block: Side of a block in pixels: wider than errors are alike, which is at least
            the scale.
        valid: Bool image (y, x): only where it is True a pixel counts. For predictions to
            be compared give the pixels that are valid in all of them.

    Raises:
        GridMismatchError: Grids differ, or dimensions are not as above.
        CRSMismatchError: CRS differ.
        BandMismatchError: Bands differ.
        ParameterError: `block` is not a positive whole number.

    Returns:
        The sums, one a block, always in the same order; a block may have no pixel at all.
    """
    if block < 1 or block != int(block):
        raise ParameterError(
            f"expected blocks of at least 1 whole pixel a side, found block={block}; two "
            "coarse pixels are usual"
        )
    images = {
        "predicted": check_image(predicted, "predicted image"),
        "reference": check_image(reference, "reference"),
    }
    check_same_grid(*images.values(), names=("predicted image", "reference"))
    names = [tuple(map(str, image["band"].values)) for image in images.values()]
    if names[0] != names[1]:
        raise BandMismatchError(
            f"expected the same bands in the same order, found {names[0]} and "
            f"{names[1]}; use predicted.sel(band=reference.band)"
        )
    if valid is not None:
        check_same_grid(valid, reference, names=("valid", "reference"))
        images["valid"] = valid.astype(bool)
    parts = reduce_tiles(
        partial(_sums, block),
        images,
        list,
        step=block,
        token=f"block errors {block}",
    ).compute()
    squared, pixels = (np.concatenate(field, -1) for field in zip(*parts, strict=True))
    return BlockErrors(squared, pixels, names[0])


def rmse_ratio(
    first: BlockErrors,
    second: BlockErrors,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Ratio of the RMSE of two predictions of one scene, with its interval.

    Args:
        first: Errors of the first prediction.
        second: Errors of the second, over the same blocks and pixels.
        level: How much of the resampled ratios the interval holds, above 0, below 1.
        resamples: How often blocks are drawn; at least 1.
        seed: Draws other blocks.

    Raises:
        BandMismatchError: The bands differ.
        ParameterError: The blocks or their pixels differ, or a number is out of range.

    Returns:
        One row a band, and 'mean' for the ratio of the RMSE's means over the bands:
        columns `band`, `ratio`, `low`, `high` (ends of the interval), `better` (share of
        the resamples in which the first has less error) and `blocks` (those that have a
        pixel). A ratio is NaN where the second has no error.

    >>> e = BlockErrors(np.array([[4.0, 8.0]]), np.array([4.0, 4.0]), ("red",))
    >>> twice = BlockErrors(4 * e.squared, e.pixels, e.bands)
    >>> rmse_ratio(twice, e).iloc[0].to_dict()["low"]
    2.0
    """
    if first.bands != second.bands:
        raise BandMismatchError(
            f"expected the same bands, found {first.bands} and {second.bands}; score both "
            "predictions with the same bands"
        )
    if not np.array_equal(first.pixels, second.pixels):
        raise ParameterError(
            f"expected errors over the same pixels, found {first.pixels.sum():.0f} and "
            f"{second.pixels.sum():.0f}; give block_errors the pixels valid in both"
        )
    if not 0 < level < 1 or resamples < 1:
        raise ParameterError(
            f"expected a level between 0 and 1 and at least 1 resample, found "
            f"level={level}, resamples={resamples}; 0.95 and 1000 are usual"
        )
    used = first.pixels > 0
    blocks = int(used.sum())
    generator = np.random.default_rng(seed)
    draws = np.zeros((resamples, blocks), np.int64)
    if blocks:
        draws = generator.multinomial(blocks, np.full(blocks, 1 / blocks), resamples)
    # The draw that was found, and the resampled ones below it.
    draws = np.vstack([np.ones((1, blocks), draws.dtype), draws])
    roots = [np.sqrt(draws @ (errors.squared[:, used].T)) for errors in (first, second)]
    roots = [np.column_stack([root, root.mean(axis=1)]) for root in roots]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(roots[1] > 0, roots[0] / roots[1], np.nan)
    tail = (1 - level) / 2
    rows = []
    for number, band in enumerate((*first.bands, "mean")):
        found, resampled = ratios[0, number], ratios[1:, number]
        known = resampled[np.isfinite(resampled)]
        low, high = (
            np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan,) * 2
        )
        rows.append(
            {
                "band": band,
                "ratio": float(found),
                "low": float(low),
                "high": float(high),
                "better": float((roots[0] < roots[1])[1:, number].mean()),
                "blocks": blocks,
            }
        )
    return pd.DataFrame(rows)


# A function of a scan stands in a module, so that it travels to other processes by name.
def _sums(
    block: int, arrays: Mapping[str, np.ndarray], _: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the blocks of a window: squared errors (band, block), pixels (block)."""
    predicted, reference = (
        arrays[name].astype(np.float64) for name in ("predicted", "reference")
    )
    squared = (predicted - reference) ** 2
    counts = np.isfinite(squared).all(axis=0)
    if "valid" in arrays:
        counts &= arrays["valid"]
    bands, rows, columns = squared.shape
    cut = (rows // block, block, columns // block, block)
    sums = np.where(counts, squared, 0.0).reshape(bands, *cut).sum(axis=(2, 4))
    pixels = counts.reshape(cut).sum(axis=(1, 3)).astype(np.float64)
    return sums.reshape(bands, -1), pixels.ravel()
