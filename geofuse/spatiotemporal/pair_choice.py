"""Which pairs serve a prediction date: near in time, on both sides, and not too cloudy.

    distance = |lag| / valid share        an image half under clouds counts as twice as far

The nearest pair before the date and the nearest after it serve. Further ones join, nearest
first, while a pixel would be without a valid pair in more than one of a hundred cases, if
clouds fell independently: prod(1 - share) > 0.01.
"""

import math
from collections.abc import Sequence

from geofuse.errors import ParameterError

#: Expected share of pixels without a valid pair above which another pair joins.
UNCOVERED = 0.01


def choose_pairs(
    lags: Sequence[float],
    shares: Sequence[float] | None = None,
    *,
    needed: int = 1,
    most: int = 4,
) -> tuple[int, ...]:
    """Choose the pairs for one prediction date.

    Args:
        lags: Prediction date minus base date of each pair, in days. A pair of lag 0 is
            left out: where it is valid nothing needs to be predicted.
        shares: Valid share of each pair's fine image, 0 to 1, or None for 1; a pair
            without a valid pixel is left out.
        needed: Fewest pairs that the method works with.
        most: Most pairs to take, at least 2.

    Returns:
        Their numbers, in order; fewer than `needed` where there are no more.

    Raises:
        ParameterError: `most` is below 2, or a share is outside 0 to 1.

    >>> choose_pairs([40, 8, -8, -40])
    (1, 2)
    >>> choose_pairs([40, 8, -8, -40], [1.0, 0.1, 1.0, 1.0])
    (0, 2)
    >>> choose_pairs([40, 8, -8, -40], [0.5, 0.5, 0.5, 0.5])
    (0, 1, 2, 3)
    """
    if most < 2:
        raise ParameterError(f"expected most of at least 2 pairs a date, found {most}")
    shares = [1.0] * len(lags) if shares is None else list(shares)
    if len(shares) != len(lags) or not all(0 <= share <= 1 for share in shares):
        raise ParameterError(
            f"expected a valid share from 0 to 1 for each of {len(lags)} pairs, found "
            f"{shares}; geofuse.valid_shares(pairs) gives them"
        )
    usable = [k for k, lag in enumerate(lags) if lag != 0 and shares[k] > 0]
    near = sorted(usable, key=lambda k: (abs(lags[k]) / shares[k], k))
    before = [k for k in near if lags[k] > 0][:1]
    after = [k for k in near if lags[k] < 0][:1]
    chosen = before + after
    for k in near:
        uncovered = math.prod(1 - shares[number] for number in chosen)
        enough = len(chosen) >= needed and uncovered <= UNCOVERED
        if enough or len(chosen) >= max(most, needed):
            break
        if k not in chosen:
            chosen.append(k)
    return tuple(sorted(chosen))
