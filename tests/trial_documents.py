"""Documents of trials, as ``flatline trial --json`` writes them."""

from __future__ import annotations

from typing import Any

import recordings


def arm(treatment: str, runs: list[float | None], verdict: str | None = None, **more: Any) -> dict:
    known = [value for value in runs if value is not None]
    mean = sum(known) / len(known) if known else None
    return {
        "treatment": treatment,
        **({} if verdict is None else {"verdict": verdict}),
        "objective": {"mean": mean, "difference": 0.0, "low": 0.0, "high": 0.0, "runs": runs}
        | more.pop("objective", {}),
        "dead_share": 0.25,
        "sick_share": 0.25,
        "effective_rank": 21.8,
        "steps_to_control": None,
        "gap": None,
        "failures": 0,
        **more,
    }


def digits() -> dict[str, Any]:
    """One arm that is better, one that differs by nothing that is shown, one that is worse."""
    return {
        "schema": "flatline/1",
        "kind": "trial",
        "objective": "loss",
        "direction": "smaller is better",
        "seeds": 3,
        "program": "train.py --epochs 5",
        "max_steps": 460,
        "confidence": 0.95,
        "interval": "paired by seed, Student's t, Bonferroni over 3 treated arms",
        "arms": [
            arm(
                "lr=x0.1",
                [0.02, 0.03, 0.02],
                "better",
                objective={"difference": -0.11, "low": -0.17, "high": -0.05},
                dead_share=0.012,
                steps_to_control=130,
            ),
            arm(
                "clip=norm:1.0",
                [0.10, 0.14, 0.13],
                "no difference shown",
                objective={"difference": -0.01, "low": -0.09, "high": 0.07},
            ),
            arm("control", [0.11, 0.16, 0.13]),
            arm(
                "init=he",
                [0.31, None, 0.35],
                "worse",
                objective={"difference": 0.21, "low": 0.11, "high": 0.31},
                failures=1,
                failed=[{"seed": 1, "why": "the program ended with status 1"}],
            ),
        ],
        "left_out": [{"treatment": "revive=redo", "why": "it needs an optimizer with a state"}],
        "notes": ["Seeds change little: the control's runs differ by less than 1%."],
        "next": [
            {
                "command": "flatline run --apply lr=x0.1 train.py --epochs 5",
                "why": "train with the best arm",
            },
            {"command": "flatline report 0a391e4a08", "why": "one of its runs in full"},
        ],
    }


def hostile() -> dict[str, Any]:
    """Names that are traps, numbers that are none, and keys that are missing."""
    names = [arm(name, [None, float("nan")], "better") for name in recordings.HOSTILE]
    return {"kind": "trial", "objective": recordings.HOSTILE[0], "arms": names, "notes": [None]}


def bare() -> dict[str, Any]:
    """Nothing but what cannot be missing."""
    return {"kind": "trial", "objective": "loss", "seeds": 1, "arms": []}
