"""Hand-made features against the libraries in use: indices, texture, profiles.

    python -m benchmarks.speed.features [--quick]

Runs `indices_speed`, `texture_speed` and `morphology_speed`, each in a process of its own
that is pinned to one CPU, and joins their last lines. Every ratio is of CPU seconds, taken
in one run by turns. `glcm_vs_grass` is null where GRASS is not installed. The full run adds
bands of 10980x10980 pixels, on all cores, with time and memory, and writes CSVs.
"""

from typing import Any

from benchmarks.record import arguments, emit, measured, save

PARTS = ("indices_speed", "texture_speed", "morphology_speed")


def main() -> None:
    """Run all parts."""
    quick = arguments(__doc__).quick
    result: dict[str, Any] = {"glcm_vs_grass": None}
    for part in PARTS:
        result |= measured(f"benchmarks.speed.{part}", quick=quick)
    if not quick:
        save("speed-features", [{"figure": k, "value": v} for k, v in result.items()])
    emit(result)


if __name__ == "__main__":
    main()
