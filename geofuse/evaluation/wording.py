"""Numbers and names as a reader wants them, and safe inside HTML."""

import html
import math
from collections.abc import Sequence

#: Stands where there is no number.
MISSING = "n/a"


def safe(text: str) -> str:
    """Text for HTML, in an element or in a quoted attribute.

    >>> safe('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(text, quote=True)


def number(value: float, digits: int = 3) -> str:
    """A number with so many digits that count.

    >>> number(0.0449999), number(287.0), number(float("nan"))
    ('0.0450', '287', 'n/a')
    """
    if not math.isfinite(value):
        return MISSING
    return signed(f"{value:#.{digits}g}".rstrip("."))


def signed(text: str) -> str:
    """A number with a real minus sign."""
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def percent(share: float) -> str:
    """A share in percent; with a decimal where whole numbers would say none or all.

    >>> percent(0.236), percent(1.0), percent(0.9996)
    ('24 %', '100 %', '99.9 %')
    """
    whole = round(100 * share)
    if whole in (0, 100) and 100 * share != whole:
        return f"{min(max(100 * share, 0.1), 99.9):.1f} %"
    return f"{whole} %"


def listed(words: Sequence[str]) -> str:
    """Words with commas and 'and'.

    >>> listed(["red", "nir", "swir1"])
    'red, nir and swir1'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def or_infinite(value: float) -> float:
    """The value, or infinity where there is none: last when sorted."""
    return value if math.isfinite(value) else math.inf
