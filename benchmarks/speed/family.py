"""Speed and memory of the fixed family, against straightforward NumPy loops, on one CPU.

    python -m benchmarks.speed.family [--quick]

Runs `family_fitfc`, `family_estarfm` and `family_fsdaf`, each in a process of its own that is
pinned to one CPU, and joins their last lines. What is timed, and what not, each of them says.
The full run writes a CSV. STARFM has a benchmark of its own, `benchmarks.speed.starfm`.
"""

from typing import Any

from benchmarks.record import arguments, emit, measured, save

PARTS = ("family_fitfc", "family_estarfm", "family_fsdaf")


def main() -> None:
    """Run all parts."""
    quick = arguments(__doc__).quick
    result: dict[str, Any] = {}
    for part in PARTS:
        result |= measured(f"benchmarks.speed.{part}", quick=quick)
    if not quick:
        save("speed-family", [{"figure": k, "value": v} for k, v in result.items()])
    emit(result)


if __name__ == "__main__":
    main()
