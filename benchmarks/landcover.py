"""Land cover from several modalities, one of which is missing: which fusion copes best?

    python -m benchmarks.landcover [--quick]       (quick: ten minutes, the best of each kind)

Four places (terramind), blocks of 28 pixels, a quarter of them to learn from; the pixels of
the others that are 2 pixels or more from those are scored. Every classifier learns once per
split, with all modalities, and is then asked about five versions of the same pixels:

    complete   no s2   no s1   s2 with 40 % gaps in blobs   s1 shifted by 1, 2, 3 pixels

and about s2 or s1 replaced by noise or a constant, not marked as missing. Nothing is chosen
by these scores: classifiers choose on blocks within those they learn from. The full run
adds baselines, every interaction, every rule, balanced classes, 5 splits, and sen1floods11,
where fusion is known not to help. Scores are means over splits, with their spread.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import geofuse as gf
from benchmarks.cases import data_folder
from benchmarks.landcover_scenes import (
    Scenes,
    corrupted,
    sen1floods11,
    shifted,
    split,
    terramind,
    with_gaps,
    without,
)
from benchmarks.record import arguments, emit, save
from geofuse.evaluation.accuracy import Confusion
from geofuse.landcover.case import LandCoverCase
from geofuse.landcover.classifier import LandCoverClassifier
from geofuse.landcover.opinions import Rule
from geofuse.networks.interactions import INTERACTIONS
from geofuse.uncertainty.classes import calibration_error, nll

#: Share of s2 that is missing where it has gaps.
GAPS = 0.4

Images = Mapping[str, xr.DataArray]
Condition = Callable[[LandCoverCase, int], Images]

#: What is asked about, by name.
CONDITIONS: dict[str, Condition] = {
    "complete": lambda case, seed: case.images,
    "no s2": lambda case, seed: without(case, "s2"),
    "no s1": lambda case, seed: without(case, "s1"),
    "s2 gaps": lambda case, seed: with_gaps(case, "s2", GAPS, seed),
    "s1 shifted 1": lambda case, seed: shifted(case, "s1", 1),
    "s1 shifted 2": lambda case, seed: shifted(case, "s1", 2),
    "s1 shifted 3": lambda case, seed: shifted(case, "s1", 3),
    "s2 noise": lambda case, seed: corrupted(case, "s2", "noise", seed),
    "s2 constant": lambda case, seed: corrupted(case, "s2", "constant", seed),
    "s1 noise": lambda case, seed: corrupted(case, "s1", "noise", seed),
    "s1 constant": lambda case, seed: corrupted(case, "s1", "constant", seed),
}

#: What is asked in the quick run.
QUICK = (
    "complete",
    "no s2",
    "no s1",
    "s2 gaps",
    "s1 shifted 2",
    "s2 noise",
    "s1 noise",
)


def quick_classifiers() -> dict[str, LandCoverClassifier]:
    """The best of each kind, with their defaults."""
    return {
        "trees": gf.EarlyFusion(),
        "network": gf.IntermediateFusion(),
        "late": gf.LateFusion(),
    }


def all_classifiers() -> dict[str, LandCoverClassifier]:
    """Baselines, every timing, every interaction and every rule."""
    bands = gf.FeatureStack(bands=True)
    return {
        "forest on bands": gf.EarlyFusion(trees="forest", features=bands),
        "forest": gf.EarlyFusion(trees="forest"),
        "trees on bands": gf.EarlyFusion(features=bands),
        "trees balanced": gf.EarlyFusion(class_weight="balanced"),
        **quick_classifiers(),
        "network balanced": gf.IntermediateFusion(class_weight="balanced"),
        "early network": gf.EarlyNetwork(),
        **{
            f"network, {name}": gf.IntermediateFusion(interaction=name)
            for name in INTERACTIONS
            if name != gf.IntermediateFusion().interaction
        },
        **{f"late, {rule}": gf.LateFusion(rule=rule) for rule in _OTHER_RULES},
    }


_OTHER_RULES: tuple[Rule, ...] = ("average", "vote", "product", "stacking")


def scored(
    name: str,
    classifier: LandCoverClassifier,
    scenes: Scenes,
    conditions: Sequence[str],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Fit a classifier to a split, and score it under some conditions."""
    cases = split(scenes, seed)
    begin = time.perf_counter()
    fitted = classifier.fit(cases.learning, seed=seed)
    fit_seconds = time.perf_counter() - begin
    for condition in conditions:
        images_of = CONDITIONS[condition]
        begin = time.perf_counter()
        found = [
            _predicted(fitted, images_of(case, 1000 * seed + number), case)
            for number, case in enumerate(cases.test)
        ]
        seconds = time.perf_counter() - begin
        probability, weight, labels = (
            np.concatenate([part[k] for part in found], axis=-1) for k in range(3)
        )
        yield {
            "classifier": name,
            "condition": condition,
            "seed": seed,
            **_scores(probability, labels, scenes),
            **{
                f"weight {modality.name}": float(weight[number].mean())
                for number, modality in enumerate(fitted.fitted()[1])
            },
            "fit_seconds": fit_seconds,
            "predict_seconds": seconds,
        }


def _predicted(
    fitted: LandCoverClassifier, images: Images, case: LandCoverCase
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, weights and labels of the pixels that are scored."""
    product = fitted.predict(images, outputs=("probability", "weight")).compute()
    at = case.labels.values >= 0
    probability = product["probability"].values[:, at]
    # Where nothing is known, nothing is told: that counts as a guess by chance.
    probability = np.where(np.isfinite(probability), probability, 1 / len(probability))
    return probability, product["weight"].values[:, at], case.labels.values[at]


def _scores(
    probability: np.ndarray, labels: np.ndarray, scenes: Scenes
) -> dict[str, float]:
    count = len(scenes.legend)
    pairs = probability.argmax(axis=0) * count + labels.astype(np.int64)
    counts = np.bincount(pairs, minlength=count**2).reshape(count, count)
    none = np.zeros(count, np.int64)
    accuracy = Confusion(scenes.legend.names, counts, none, none).accuracy()
    return {
        "oa": 100 * accuracy.overall,
        "aa": 100 * accuracy.average,
        "kappa": accuracy.kappa,
        "nll": nll(probability, labels.astype(np.int64)),
        "ece": calibration_error(probability, labels.astype(np.int64)),
        "pixels": labels.size,
    }


def measure(
    scenes: Scenes,
    classifiers: Mapping[str, LandCoverClassifier],
    conditions: Sequence[str],
    splits: int,
) -> pd.DataFrame:
    """All scores: a row a classifier, condition and split."""
    rows = []
    for name, classifier in classifiers.items():
        for seed in range(splits):
            rows += list(scored(name, classifier, scenes, conditions, seed))
            complete = rows[-len(conditions)]
            print(
                f"{name:<24} split {seed}: OA {complete['oa']:.1f}, fit "
                f"{complete['fit_seconds']:.0f} s",
                flush=True,
            )
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """The figures asked for: means over splits."""
    means = table.groupby(["classifier", "condition"]).mean(numeric_only=True)

    def of(name: str, condition: str, score: str) -> float:
        return float(means.loc[(name, condition), score])

    def oa(name: str, condition: str) -> float:
        return round(of(name, condition, "oa"), 2)

    weighing = [
        name
        for name in ("network", "late")
        if np.isfinite(of(name, "complete", "weight s2"))
    ]
    absent = [
        of(name, f"no {modality}", f"weight {modality}")
        for name in weighing
        for modality in ("s2", "s1")
    ]
    told = ("trees", "network", "late")
    result: dict[str, Any] = {
        "oa_handcrafted": oa("trees", "complete"),
        "oa_network": oa("network", "complete"),
        "oa_late": oa("late", "complete"),
        "oa_s2_missing": oa("network", "no s2"),
        "oa_s2_missing_handcrafted": oa("trees", "no s2"),
        "oa_s1_missing": oa("network", "no s1"),
        "oa_s1_missing_handcrafted": oa("trees", "no s1"),
        "oa_s2_gaps40": oa("network", "s2 gaps"),
        "oa_s2_gaps40_handcrafted": oa("trees", "s2 gaps"),
        "weight_missing": round(max(absent, default=float("nan")), 5),
        "ece": round(max(of(name, "complete", "ece") for name in told), 4),
        "ece_by_classifier": {n: round(of(n, "complete", "ece"), 4) for n in told},
        "oa_spread": {
            name: round(float(rows["oa"].std()), 2)
            for name, rows in table[table["condition"] == "complete"].groupby(
                "classifier"
            )
        },
    }
    result["weight_corrupted"] = {
        f"{name}, {modality} {how}": {
            "weight": round(of(name, f"{modality} {how}", f"weight {modality}"), 3),
            "normal": round(of(name, "complete", f"weight {modality}"), 3),
            "oa": round(of(name, f"{modality} {how}", "oa"), 1),
        }
        for name in weighing
        for modality in ("s2", "s1")
        for how in ("noise", "constant")
        if f"{modality} {how}" in set(table["condition"])
    }
    return result


def _print(table: pd.DataFrame, title: str) -> None:
    print(f"\n{title}: OA in %, mean over splits")
    means = table.pivot_table(
        index="classifier", columns="condition", values="oa", sort=False
    )
    print(means[[c for c in CONDITIONS if c in means]].round(1).to_string())


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    folder = data_folder()
    if folder is None:
        print("GEOFUSE_DATA names no folder of real scenes: nothing is measured")
        emit({})
        return
    classifiers = quick_classifiers() if options.quick else all_classifiers()
    conditions = QUICK if options.quick else tuple(CONDITIONS)
    splits = 2 if options.quick else 5
    table = measure(terramind(folder), classifiers, conditions, splits)
    _print(table, "terramind")
    result = summary(table)
    if not options.quick:
        floods = measure(sen1floods11(folder), quick_classifiers(), conditions, 5)
        _print(floods, "sen1floods11")
        means = floods[floods["condition"].isin(["complete", "no s2", "no s1"])]
        result["sen1floods11"] = {
            f"{name}, {condition}": round(float(rows["oa"].mean()), 2)
            for (name, condition), rows in means.groupby(["classifier", "condition"])
        }
        save(
            "landcover",
            pd.concat(
                [table.assign(data="terramind"), floods.assign(data="sen1floods11")]
            ),
        )
    emit(result)


if __name__ == "__main__":
    main()
