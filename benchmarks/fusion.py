"""Accuracy of every fusion method on every case, beside the trivial lines and other programs.

    python -m benchmarks.fusion [--quick]

Scores are not clipped, and count only the pixels that are valid in all methods. No method
sees a reference; STARFM's defaults were looked at on the real scenes beside simulated
ones. `--quick` runs smaller simulated scenes and fewer of them. Windows are those of the
published figures: 31x31 on CIA, 51x51 on LGC.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.cases import NamedCase, real_cases, simulated_cases
from benchmarks.record import arguments, emit, save
from geofuse.errors import TooFewPairsError
from geofuse.evaluation.metrics import RMSE, SAM, SSIM, score
from geofuse.spatiotemporal import METHODS
from geofuse.spatiotemporal.baselines import CoarseChange
from geofuse.spatiotemporal.estarfm import ESTARFM
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.spatiotemporal.ubestarfm import UbESTARFM

#: Search windows of the other programs' figures, so that like is compared with like.
RADIUS = {"cia": 15, "lgc": 25, "simulated": 15}

#: Measured RMSE of the other programs with the lowest band mean, and of the best lines.
#: Where they come from is said in README.md of this folder.
PEERS = {
    ("cia 10-08 > 10-17", "starfm", "USDA C STARFM"): (
        0.0124, 0.0129, 0.0184, 0.0447, 0.0659, 0.0559,
    ),
    ("cia 10-08 11-02 > 10-17", "starfm", "USDA C STARFM"): (
        0.0119, 0.0125, 0.0185, 0.0422, 0.0564, 0.0475,
    ),
    ("cia 10-08 11-02 > 10-17", "estarfm", "imagefusion ESTARFM"): (
        0.0111, 0.0117, 0.0164, 0.0361, 0.0478, 0.0415,
    ),
    ("lgc 11-26 > 12-28", "starfm", "USDA C STARFM, 4 slices"): (0.0121, 0.0161, 0.0443),
}  # fmt: skip


def methods_for(site: str) -> dict[str, FusionMethod]:
    """Every method with its defaults, at the site's search window."""
    chosen: dict[str, FusionMethod] = {}
    for name, kind in METHODS.items():
        method = kind()
        if isinstance(method, STARFM | ESTARFM | UbESTARFM):
            method = dataclasses.replace(method, radius=RADIUS[site])
        chosen[name] = method
    chosen["starfm rules=usda"] = STARFM(
        radius=RADIUS[site], rules="usda", classes=40, noise=0.05
    )
    chosen["starfm rules=paper"] = STARFM(
        radius=RADIUS[site], rules="paper", classes=4, noise=0.05
    )
    if site == "lgc":
        chosen["starfm defaults"] = STARFM()
    chosen["estarfm gate=imagefusion"] = ESTARFM(
        radius=RADIUS[site], gate="imagefusion"
    )
    # As imagefusion was run for the published figures, by what reproduces them.
    chosen["estarfm gate=imagefusion classes=2"] = ESTARFM(
        radius=RADIUS[site], gate="imagefusion", classes=2
    )
    chosen["estarfm classes=4"] = ESTARFM(radius=RADIUS[site], classes=4)
    chosen["coarse-change bicubic"] = CoarseChange(upsample="bicubic")
    return chosen


def compare(named: NamedCase) -> Iterator[dict[str, Any]]:
    """Score all methods on one case, on the pixels valid in all of them."""
    inputs, reference = named.case.inputs, named.case.reference
    if (
        inputs.scale is None
    ):  # CIA: smooth on the fine grid, MODIS of about 460 m on 50 m
        inputs = type(inputs)(inputs.pairs, inputs.coarse, scale=10)
    predictions, seconds = {}, {}
    for name, method in methods_for(named.site).items():
        try:
            product = method.predict(inputs, outputs=("reflectance",))
        except TooFewPairsError:
            continue
        begin = time.perf_counter()
        predictions[name] = product.reflectance.compute()
        seconds[name] = time.perf_counter() - begin
    valid = np.logical_and.reduce(
        [np.isfinite(image).all("band") for image in predictions.values()]
    )
    mask = reference.isel(band=0, drop=True).copy(data=valid)
    for name, image in predictions.items():
        table = score(
            image, reference, metrics=(RMSE, SSIM, SAM), scale=inputs.scale, valid=mask
        )
        for row in table.itertuples():
            yield {
                "method": name,
                "case": named.name,
                "site": named.site,
                "band": row.band,
                "metric": row.metric,
                "value": row.value,
                "pixels": row.pixels,
                "predict_seconds": seconds[name],
                "configuration": repr(methods_for(named.site)[name]),
            }


def against_peers(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Our band-mean RMSE over that of the best measured program of the same method."""
    rmse = table[(table.metric == "rmse") & (table.band == "mean")]
    values = rmse.set_index(["case", "method"])["value"]
    return [
        {
            "case": case,
            "method": method,
            "program": program,
            "ratio": float(values[case, method] / np.mean(bands)),
        }
        for (case, method, program), bands in PEERS.items()
        if (case, method) in values.index
    ]


def summary_table(table: pd.DataFrame) -> str:
    """Band-mean RMSE x 1000 over groups of cases, mean and range, as Markdown."""
    rmse = table[(table.metric == "rmse") & (table.band == "mean")].copy()
    pairs = rmse["case"].map(
        lambda name: "two pairs" if _two_pairs(name) else "one pair"
    )
    names = {"cia": "CIA", "lgc": "LGC (simulated coarse)", "simulated": "simulated"}
    rmse["group"] = rmse["site"].map(names) + ", " + pairs
    groups = list(dict.fromkeys(rmse["group"]))
    counts = rmse.groupby("group")["case"].nunique()
    head = ["Method", *(f"{group} ({counts[group]})" for group in groups)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for method in dict.fromkeys(rmse["method"]):
        cells = [f"`{method}`"]
        for group in groups:
            values = (
                rmse[(rmse.method == method) & (rmse.group == group)]["value"] * 1000
            )
            spread = (
                f" ({values.min():.1f} to {values.max():.1f})"
                if len(values) > 1
                else ""
            )
            cells.append(f"{values.mean():.1f}{spread}" if len(values) else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _two_pairs(case: str) -> bool:
    bases, _, date = case.partition(" > ")
    return "2 pairs" in case or (bool(date) and len(bases.split()) > 2)


def write_into(page: Path, text: str) -> None:
    """Put the table between the two marks of a page."""
    begin, end = "<!-- results -->", "<!-- end of results -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Run the benchmark."""
    quick = arguments(__doc__).quick
    cases = [*real_cases(), *simulated_cases(size=96 if quick else 192)]
    table = pd.DataFrame([row for named in cases for row in compare(named)])
    rmse = table[(table.metric == "rmse") & (table.band == "mean")]
    print("RMSE, mean of the bands")
    wide = rmse.pivot_table(index="case", columns="method", values="value", sort=False)
    with pd.option_context("display.width", 250, "display.max_columns", 50):
        print(wide.to_string(float_format=lambda value: f"{value:.4f}"))
    peers = against_peers(table)
    for peer in peers:
        print(
            f"{peer['method']} on {peer['case']}: {peer['ratio']:.3f} of {peer['program']}"
        )
    if not quick:
        print(f"written: {save('fusion', table).name}")
        write_into(Path(__file__).parents[1] / "README.md", summary_table(table))
    emit(
        {
            "cases": len(cases),
            "starfm_vs_best_program": {
                peer["case"]: round(peer["ratio"], 4)
                for peer in peers
                if peer["method"] == "starfm"
            },
            "estarfm_vs_best_program": {
                peer["case"]: round(peer["ratio"], 4)
                for peer in peers
                if peer["method"] == "estarfm"
            },
        }
    )


if __name__ == "__main__":
    main()
