"""From vitals and ledgers to a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flatline.anatomy.site import Site
from flatline.diagnose.causes import Causes, attribute
from flatline.diagnose.certainty import Certainty, assess
from flatline.diagnose.chart import Chart
from flatline.diagnose.comeback import near
from flatline.diagnose.findings import Finding, find, verdict
from flatline.diagnose.remedies import prescribe
from flatline.diagnose.states import States, judge
from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.sense.history import History
from flatline.sense.vitals import Ledger, Vitals


@dataclass(frozen=True)
class Diagnosis:
    """What is known about a model's units.

    Attributes:
        sites: Per site, the states of its units; in the order of the sites.
        causes: Per site, why its dead units died.
        findings: The most severe first.
        verdict: ``"healthy"``, ``"warning"`` or ``"sick"``.
        certainty: How far the calls of dead units can be trusted.
    """

    sites: dict[str, States]
    causes: dict[str, Causes]
    findings: tuple[Finding, ...]
    verdict: str
    certainty: Certainty

    def to_dict(self) -> dict[str, Any]:
        """The parts of the JSON report that rest on the diagnosis alone, units left out."""
        return {
            "verdict": self.verdict,
            "sites": [
                {
                    "name": name,
                    "units": states.site.units,
                    "states": states.counts(),
                    "silent_so_far": states.silent_so_far,
                }
                for name, states in self.sites.items()
            ],
            "findings": [
                {
                    "code": one.code,
                    "severity": one.severity,
                    "sites": list(one.sites),
                    "share": one.share,
                    "message": one.message,
                    "evidence": dict(one.evidence),
                    "remedies": [vars(remedy).copy() for remedy in one.remedies],
                    "explains": list(one.explains),
                }
                for one in self.findings
            ],
        }


def diagnose(
    sites: Sequence[Site],
    windows: Mapping[str, Vitals],
    ledgers: Mapping[str, Ledger] | None = None,
    history: History | None = None,
    thresholds: Thresholds = DEFAULT,
) -> Diagnosis:
    """The state of every unit, the findings, and the verdict.

    Args:
        sites: The sites of the model, in the order of the forward pass.
        windows: What the examples of the last windows say, by site; a site without any was not
            visited.
        ledgers: When each unit last showed life, by site; none where no training was watched.
        history: What the training went through; nothing where none was watched.
        thresholds: What findings compare with.

    Example:
        >>> from flatline import activations
        >>> site = Site("net.0", activations.get("relu"), 4)
        >>> diagnose([site], {}).findings[0].message
        '4 of 4 units of site net.0 (relu) received no example in any exam'
    """
    gradients = [windows[site.name].gradient for site in sites if site.name in windows]
    finite = [g[np.isfinite(g)] for g in gradients]
    largest = max((float(g.max()) for g in finite if g.size), default=np.nan)
    states = {
        site.name: judge(
            site,
            windows.get(site.name) or Vitals.empty(site.units),
            (ledgers or {}).get(site.name),
            largest_gradient=largest,
        )
        for site in sites
    }
    chart = Chart(list(states.values()), history or History(), thresholds)
    causes = attribute(chart)
    chart = replace(chart, causes=causes)
    findings = prescribe(chart, find(chart))
    certainty = replace(assess(chart.states, chart.history), near=near(chart))
    return Diagnosis(states, causes, findings, verdict(findings), certainty)
