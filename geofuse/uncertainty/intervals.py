"""Intervals from a standard deviation: the prediction, and so many of those on each side.

    level     0.5     0.8     0.9     0.95
    factor    0.674   1.282   1.645   1.960     of a Gaussian

A factor may come from elsewhere: `conformal.py` finds the one that held-out errors ask for.
"""

from scipy.special import ndtri

from geofuse.errors import ParameterError


def check_level(level: float) -> None:
    """Refuse a level that is no share of what is covered.

    Raises:
        ParameterError: It is not between 0 and 1.
    """
    if not 0 < level < 1:
        hint = f"{level / 100:g}" if 1 < level < 100 else "0.9"
        raise ParameterError(
            f"expected a level between 0 and 1, found {level:g}; write {hint} for an "
            f"interval that covers {100 * float(hint):g} % of the errors"
        )


def gaussian_factor(level: float) -> float:
    """Half the width of the central interval of a Gaussian, in standard deviations.

    Args:
        level: Share of a Gaussian that lies in the interval, between 0 and 1.

    Raises:
        ParameterError: The level is not between 0 and 1.

    >>> round(gaussian_factor(0.9), 3)
    1.645
    """
    check_level(level)
    return float(ndtri(0.5 + level / 2))


def in_percent(level: float) -> str:
    """A level as names and titles write it: 0.9 is `90`, 0.975 is `97.5`.

    >>> in_percent(0.975)
    '97.5'
    """
    return f"{100 * level:g}"
