"""How names and numbers are written.

Names come from the model and the program that were watched and may hold anything: whatever is
shown of them goes through :func:`clean`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

NAME = 60  # characters of a name that are shown at most, where nothing else limits it


def clean(text: object, limit: int | None = None) -> str:
    r"""Text that stays on one line and cannot steer a terminal.

    Control characters, line ends, direction overrides and unpaired surrogates are written as
    Python writes them.

    Args:
        text: Any text.
        limit: Characters to keep, at most; the middle of what is longer is left out.

    Example:
        >>> clean("a\nb\x1b[31m")
        'a\\nb\\x1b[31m'
        >>> clean("abcdefghij", 7)
        'abc…hij'
    """
    shown = str(text)
    if limit is not None and len(shown) > limit:
        left = limit // 2
        shown = f"{shown[:left]}…{shown[len(shown) - (limit - left - 1) :]}"
    return "".join(
        repr(c)[1:-1] if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c
        for c in shown
    )


def named(name: object, limit: int = NAME) -> str:
    """A name as it is shown; one that is empty as two quotes."""
    return clean(name, limit) or '""'


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    Args:
        number: How many.
        noun: The noun for one.
        plural: The noun for more, where it does not end in a mere s.

    Example:
        >>> count(1, "unit"), count(2_000, "unit")
        ('1 unit', '2,000 units')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """A share with two digits, never rounded to nothing and never to all.

    Example:
        >>> percent(0.416), percent(0.0004), percent(0.0), percent(0.9999), percent(1.0)
        ('42%', '0.04%', '0%', '>99%', '100%')
    """
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share:.0%}" if share >= 0.1 else f"{share * 100:.2g}%"


def number(value: float | None) -> str:
    """A number with four digits, or in full where it is whole.

    Example:
        >>> number(29_440.0), number(0.00015642), number(float("nan"))
        ('29,440', '0.0001564', 'not a number')
    """
    if value is None or math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.4g}"


def measured(value: float | None) -> str:
    """A number in three digits; empty where there is none.

    Example:
        >>> measured(0.000156642), measured(128.0), measured(-3.14159), measured(None)
        ('0.000157', '128', '−3.14', '')
    """
    if value is None or math.isnan(value):
        return ""
    if math.isinf(value):
        return number(value)
    return f"{value:,.0f}" if _whole(value) else f"{value:.3g}".replace("-", "−")


def _whole(value: float) -> bool:
    return value == round(value) and 0 <= value < 1e9


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(0.041), duration(0.31), duration(12.34), duration(4000)
        ('0.041 s', '0.3 s', '12 s', '1 h 7 min')
    """
    if seconds < 0.1:
        return f"{seconds:.2g} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def ranges(units: Sequence[int], most: int) -> str:
    """Indices of units in at most so many characters, at least the first range.

    Example:
        >>> ranges([1, 2, 3, 7, 9, 12, 20, 21], 80)
        '1–3,7,9,12,20–21'
        >>> ranges([1, 2, 3, 7, 9, 12, 20, 21], 10)
        '1–3,7 (+4)'
    """
    spans: list[list[int]] = []
    for unit in sorted(units):
        if spans and unit == spans[-1][1] + 1:
            spans[-1][1] = unit
        else:
            spans.append([unit, unit])
    said, left = "", len(units)
    for first, last in spans:
        word = ("," if said else "") + (str(first) if first == last else f"{first}–{last}")
        rest = left - (last - first + 1)
        more = f" (+{rest:,})" if rest else ""
        if said and len(said) + len(word) + len(more) > most:
            break
        said, left = said + word, rest
    return said + (f" (+{left:,})" if left else "")
