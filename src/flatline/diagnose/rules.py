"""Rules that make a run fail: ``dead>5%``, ``sick>10%``, ``critical``, or a finding's code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from flatline.diagnose.names import CODES, SICK, STATES
from flatline.errors import UsageError

_SHARE = re.compile(r"\s*([a-z]+)\s*>\s*(\d+(?:\.\d+)?)\s*%\s*")
_SUBJECTS = ("sick", *STATES)


class Outcome(Protocol):
    """A report, a diagnosis, or whatever else can give itself in the form of the JSON report."""

    def to_dict(self) -> Mapping[str, Any]:
        """At least ``sites`` and ``findings``."""
        ...


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        subject: A state or ``"sick"``, ``"critical"``, or a finding's code.
        above: The share of all units that must be exceeded; ``None`` for a finding.
    """

    subject: str
    above: float | None = None

    def __str__(self) -> str:
        return self.subject if self.above is None else f"{self.subject}>{self.above * 100:g}%"


def parse(text: str) -> Rule:
    """The rule that ``text`` means.

    Raises:
        UsageError: When it is no rule; the message says what comes close.

    Example:
        >>> parse("dead>5%")
        Rule(subject='dead', above=0.05)
    """
    share = _SHARE.fullmatch(text)
    if share and share[1] in _SUBJECTS:
        above = float(share[2]) / 100
        if above >= 1:
            raise UsageError(
                f"expected a share below 100% in the rule {text!r}, which can never hold; "
                f"write for example {share[1]}>5%"
            )
        return Rule(share[1], above)
    word = text.strip()
    if word in _SUBJECTS:
        raise UsageError(
            f"expected a share after {word}, found {text!r}; write for example '{word}>5%', in "
            "quotes, since a shell takes > for itself"
        )
    if word == "critical" or word in CODES:
        return Rule(word)
    subject = re.split(r"[\s>=<]", word, maxsplit=1)[0]
    close = difflib.get_close_matches(subject, (*_SUBJECTS, "critical", *CODES), n=1, cutoff=0.5)
    hint = "dead>5%"
    if close:
        hint = f"{close[0]}>5%" if close[0] in _SUBJECTS else close[0]
    raise UsageError(
        "expected a rule such as dead>5%, sick>10%, critical or a finding's code, "
        f"found {text!r}; did you mean {hint}?"
    )


def holds(rule: Rule, outcome: Outcome) -> bool:
    """Whether the rule holds of a report or a diagnosis.

    A share is one of all watched units of the model. Units that are silent so far, on too few
    examples to be called dead, do not count as dead or sick.
    """
    said = outcome.to_dict()
    if rule.above is not None:
        units = sum(site["units"] for site in said["sites"])
        affected = sum(_affected(site, rule.subject) for site in said["sites"])
        # 29 of 100 is not more than 29 %, though 0.29 * 100 is less than 29 in floating point.
        return bool(affected - rule.above * units > 1e-9 * units)
    if rule.subject == "critical":
        return any(one["severity"] == "critical" for one in said["findings"])
    return any(one["code"] == rule.subject for one in said["findings"])


def _affected(site: Mapping[str, Any], subject: str) -> int:
    named = SICK if subject == "sick" else {subject}
    number = sum(count for state, count in site["states"].items() if state in named)
    return int(number - (site.get("silent_so_far", 0) if "dead" in named else 0))
