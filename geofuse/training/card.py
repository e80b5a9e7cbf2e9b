"""The model card: what a saved model learned from, how, and how well it does.

It is stored as JSON beside the model's fields, and as a page to read, README.md.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geofuse.errors import OutOfRangeWarning


@dataclass(frozen=True)
class Card:
    """What is told about a saved model.

    Args:
        data: What it learned from, in words.
        seed: Of the training; None where nothing was drawn.
        training: How it was trained: settings, steps, why it ended.
        command: The command that made it.
        scales: Every scale (coarse GSD / fine GSD) that it has seen.
        bands: Every band that it has seen.
        scores: Scores on data held out, by name.
        limits: What it should not be used for.
        deviation_factor: Of the stated standard deviation, so that intervals of 90 % hold
            90 % of the pixels held out; 1 where that was not told.
    """

    data: str = ""
    seed: int | None = None
    training: str = ""
    command: str = ""
    scales: tuple[int, ...] = ()
    bands: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    limits: str = ""
    deviation_factor: float = 1.0

    def page(self, title: str, facts: Mapping[str, str]) -> str:
        """The card in Markdown.

        Args:
            title: Name of the method.
            facts: What else to tell, by name.
        """
        seed = "" if self.seed is None else str(self.seed)
        told = {
            **facts,
            "Data": self.data,
            "Seed": seed,
            "Training": self.training,
            "Command": f"`{self.command}`" if self.command else "",
            "Scales": ", ".join(map(str, self.scales)),
            "Bands": ", ".join(self.bands),
            "Limits": self.limits,
            "Intervals": (
                ""
                if self.deviation_factor == 1
                else f"{self.deviation_factor:g} of the Gaussian's, from data held out"
            ),
        }
        lines = [f"# {title}", ""]
        lines += [f"- **{name}**: {text}" for name, text in told.items() if text]
        if self.scores:
            lines += ["", "| Score on data held out | Value |", "|---|---|"]
            lines += [
                f"| {name} | {value:.4g} |" for name, value in self.scores.items()
            ]
        return "\n".join(lines) + "\n"

    def warn_of_scale(self, scale: int | None) -> None:
        """Warn where a scale lies outside those that the model was trained on.

        Args:
            scale: Coarse GSD / fine GSD of a scene; None where it is unknown.

        Warns:
            OutOfRangeWarning: It is smaller than the smallest, or larger than the largest.
        """
        if scale is None or not self.scales:
            return
        low, high = min(self.scales), max(self.scales)
        if not low <= scale <= high:
            trained = f"{low}" if low == high else f"{low} to {high}"
            warnings.warn(
                f"expected a scale that the model was trained on, {trained}, found {scale}; "
                "compare the product with a fixed method such as starfm, or train on "
                "pairs of this scale",
                OutOfRangeWarning,
                stacklevel=2,
            )


def card_from(values: Mapping[str, Any]) -> Card:
    """A card from its JSON; what is missing is left empty, what is unknown left out.

    Raises:
        ValueError: A value is not of its kind.
        TypeError: Likewise.
    """
    return Card(
        data=str(values.get("data", "")),
        seed=None if values.get("seed") is None else int(values["seed"]),
        training=str(values.get("training", "")),
        command=str(values.get("command", "")),
        scales=tuple(map(int, values.get("scales", ()))),
        bands=tuple(map(str, values.get("bands", ()))),
        scores={str(k): float(v) for k, v in dict(values.get("scores", {})).items()},
        limits=str(values.get("limits", "")),
        deviation_factor=float(values.get("deviation_factor", 1.0)),
    )
