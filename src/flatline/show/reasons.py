"""The sentences of an explanation: what happened, why, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from flatline.diagnose.comeback import CLOSE, Comeback
from flatline.diagnose.story import Moment
from flatline.show.explanation import Neighbour
from flatline.show.text import NAME, clean, count, measured, named, percent

CAUSES = {
    "born-dead": "It showed no life at any step.",
    "step-too-large": "One update, or updates of that size, carried it past its threshold.",
    "bias-drift": "Its bias moved it, in many small steps.",
    "weight-drift": "Its weights moved it, in many small steps.",
    "input-shift": "Its inputs moved it: they changed, not the unit.",
    "upstream-death": "The units that it reads died.",
    "weight-decay": "Its weights shrank, and decay explains most of that.",
    "saturation": "It sits on a rail of its activation.",
    "non-finite": "Its values or gradients were NaN or infinite.",
    "unknown": "What was measured decides for none of the causes.",
}


def signed(value: float) -> str:
    """A change in three digits, with its sign.

    Example:
        >>> signed(2.0), signed(-0.25), signed(float("nan"))
        ('+2', '−0.25', 'unknown')
    """
    return f"{value:+.3g}".replace("-", "−") if math.isfinite(value) else "unknown"


def notable(evidence: Mapping[str, float]) -> list[str]:
    """What stands out of the numbers that a cause rests on, in one sentence each."""
    said = []
    for name, least, says in _NOTABLE:
        value = evidence.get(name)
        if value is not None and value >= least:
            said.append(says(value))
    return said


_NOTABLE: tuple[tuple[str, float, Callable[[float], str]], ...] = (
    ("shift", 0.1, lambda v: f"One update moved its mean z by up to {v:.2g} spreads of z."),
    (
        "gradient_ratio",
        2.0,
        lambda v: f"The gradient at that step was {v:.3g} times the median of those before.",
    ),
    ("loss_ratio", 2.0, lambda v: f"The loss then was {v:.3g} times its median before."),
    ("burst", 0.05, lambda v: f"{percent(v)} of the site's units died in the same step."),
    ("upstream", 0.1, lambda v: f"{percent(v)} of the units that it reads were dead by then."),
    (
        "decay_ratio",
        0.1,
        lambda v: f"Weight decay pulled on its weights {v:.2g} times as hard as the loss.",
    ),
    (
        "data_shift",
        0.1,
        lambda v: f"The data's means had moved by {v:.2g} standard deviations.",
    ),
)


def happened(moment: Moment, whole_site: bool) -> str:
    """What a moment of a story was, in words.

    Args:
        moment: The moment.
        whole_site: It is one of a site, and speaks of several units.
    """
    says = _SITE if whole_site else _UNIT
    return says[moment.event](moment.evidence)


def _mean(evidence: Mapping[str, Any]) -> str:
    if "mean_z" not in evidence:
        return ""
    spread = evidence.get("spread_z")
    wide = "" if spread is None else f", spread {measured(spread)}"
    return f"mean z {measured(evidence['mean_z'])}{wide}"


def _died(evidence: Mapping[str, Any]) -> str:
    after = evidence["after"]
    if evidence["exact"] and after is None:
        return "silent from the first step on, by the pulse"
    if evidence["exact"]:
        return "the first step on which it was silent, by the pulse"
    known = "at some step before" if after is None else f"at some step after {after:,}"
    return f"{known}, at this one at the latest"


def _now(evidence: Mapping[str, Any]) -> str:
    said, seen = str(evidence["state"]), int(evidence["examples"])
    if not seen:
        return said
    if said == "dead":
        silent = "dead, silent" if evidence["certain"] else "silent so far,"
        upper = percent(evidence["firing_rate_upper"])
        return f"{silent} on {count(seen, 'example')}: fires on at most {upper}"
    return f"{said}, fired on {percent(evidence['firing_rate'])} of {count(seen, 'example')}"


_UNIT: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "born": lambda e: ", ".join(filter(None, ("first seen by an exam", _mean(e)))),
    "revived": lambda e: (
        f"it fired again, as the exam of step {e['noticed']:,} noticed"
        if "noticed" in e
        else "an exam found that it had fired since"
    ),
    "last fired": lambda e: "the last step on which it showed life",
    "died": _died,
    "found silent": lambda e: ", ".join(filter(None, ("by an exam", _mean(e)))),
    "now": _now,
}
_SITE: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "born": lambda e: f"{count(e['units'], 'unit')}, first seen by an exam",
    "revived": lambda e: f"an exam found {count(e['units'], 'unit')} to have fired since",
    "died": lambda e: (
        f"{count(e['units'], 'unit')}" + ("" if e["exact"] else ", at this step at the latest")
    ),
    "found silent": lambda e: f"{count(e['units'], 'unit')}, by an exam",
    "now": lambda e: ", ".join(f"{n:,} {state}" for state, n in e.items()),
}


def chances(found: Comeback) -> list[str]:
    """Whether a dead unit may come back, in sentences."""
    said = []
    if found.margin is not None:
        said.append(f"At its closest it lay {-found.margin:.2g} standard deviations below firing.")
    if found.moving is None:
        said.append(
            "No watched site feeds it. If it reads the data itself, its inputs do not move: only "
            "an example unlike those seen, weight decay or momentum that is left can make it fire."
        )
    elif found.moving <= 0:
        said.append("The layers that it reads do not move, so nothing can lift it.")
    else:
        close = found.margin is not None and -found.margin <= CLOSE
        said.append(
            f"The layers that it reads still move, by {found.moving:.2g} of their weights an update"
            + (": so close to firing, it may well come back by itself." if close else ".")
        )
    if found.died:
        deep = " at least as far from firing" if found.depth is not None else ""
        one = found.died == 1
        said.append(
            f"Of {count(found.died, 'other unit')} of this run that {'was' if one else 'were'} "
            f"found silent{deep}, {found.returned or 'none':} came back: at most "
            f"{percent(found.upper)} do, at 99% confidence."
        )
    return said


def neighbour(one: Neighbour) -> str:
    """A neighbouring site with its dead units."""
    said = f"{named(one.site)} ({clean(one.activation, NAME)}), {one.dead:,} of "
    said += f"{count(one.units, 'unit')} dead"
    if one.dead_before is not None and one.dead:
        said += f", {one.dead_before or 'none'} of them before it"
    return said
