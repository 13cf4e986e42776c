"""What may help against a finding: treatments, the best first, with their numbers.

Which treatment comes first, and by which number, was chosen by trying them on labelled trainings
(``python -m benchmarks.repair``), on the half of them that thresholds may be chosen on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from flatline.diagnose.chart import Chart
from flatline.diagnose.doses import crawls, factor, rounded, slower, steep, stillborn, usual_update
from flatline.diagnose.findings import Finding, Remedy
from flatline.diagnose.findings.rates import largest_update
from flatline.diagnose.names import CAUSES
from flatline.diagnose.states import States

#: Root mean square of z from which on most examples lie at the flat ends of tanh or sigmoid.
_BENT = 3.0
#: Width of a layer, in those of the usual one, that is a bottleneck.
_NECK = 0.25
#: Probability from which on weights drawn anew are no remedy.
_LIKELY = 0.05

Remedies = tuple[Remedy, ...]
Prescribe = Callable[[Chart, Finding], Remedies]


def prescribe(chart: Chart, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with what may help against each.

    Where another finding is no symptom of the main one, what helps against either alone may not
    show: the main one then names a treatment of both, first where both are as severe. So it does,
    in the second place, where updates are too small, which may be a symptom or not; first where
    the rate alone makes them so.
    """
    found = [
        replace(one, remedies=_once(_BY_CODE[one.code](chart, one)) if one.code in _BY_CODE else ())
        for one in findings
    ]
    symptoms = {code for one in found for code in one.explains}
    raised = [one for one in found if one.severity != "info"]
    roots = [one for one in raised if one.code not in symptoms]
    if not roots:
        return tuple(found)
    main = roots[0]
    slow = [one for one in raised if one.code == "learning-rate-too-low" and one not in roots]
    others = [*roots[1:], *slow]
    if crawls(chart):
        both, place = _joined(main.remedies, _slow(chart, main), "the rate is too small for any"), 0
    elif others:
        other = others[0]
        both = _joined(main.remedies, other.remedies, f"it treats {other.code} as well")
        place = int(other in slow or main.severity != other.severity)
    else:
        return tuple(found)
    if both is not None:
        remedies = _once((*main.remedies[:place], both, *main.remedies[place:]))
        found[found.index(main)] = replace(main, remedies=remedies)
    return tuple(found)


def _once(remedies: Remedies) -> Remedies:
    """Without the later of two of the same treatment, whose numbers came out alike."""
    found: dict[str, Remedy] = {}
    for one in remedies:
        found.setdefault(one.treatment, one)
    return tuple(found.values())


def _joined(main: Remedies, other: Remedies, why: str) -> Remedy | None:
    """The first of the remedies of two findings in one; ``None`` where they are of a kind."""
    if not (main and other):
        return None
    first, second = (one[0].treatment.split("+") for one in (main, other))
    kinds = {part.partition("=")[0] for part in first}
    if kinds & {part.partition("=")[0] for part in second}:
        return None
    return Remedy("+".join((*first, *second)), why)


_CLIP = Remedy("clip=auto:50", "no gradient moves the weights further than half of those before")
_LIMIT = Remedy("clip=norm:1.0", "no single gradient throws the weights far")


# Findings about what was written and fed


def _stale(chart: Chart, finding: Finding) -> Remedies:
    return (Remedy("zero_grad=each", "each update again follows the gradient of its own batch"),)


def _frozen(chart: Chart, finding: Finding) -> Remedies:
    kinds = {name.removesuffix("_share") for name in finding.evidence if name.endswith("_share")}
    attach = Remedy("detach=off", "gradients pass where detach() cuts them off")
    thaw = Remedy("unfreeze=all", "every parameter asks for gradients and has an optimizer")
    return (attach, thaw) if "no_gradient" in kinds else (thaw, attach)


_PROBABILITIES = "its outputs are the probabilities that the loss asks for"


def _output(chart: Chart, finding: Finding) -> Remedies:
    note = chart.history.last("loss") or {}
    last, op, own = note.get("last"), note.get("op"), note.get("own")
    if last in ("softmax", "log_softmax") and note.get("width") == 1:
        return (Remedy("output=sigmoid", "a sigmoid of one unit can be any probability"),)
    if op == "nll" and own == "none":
        return (Remedy("output=log_softmax", "its outputs are the logarithms that the loss wants"),)
    if op == "nll" and own == "log":
        return (Remedy("output=softmax", _PROBABILITIES),)
    if op == "bce":
        return (Remedy("output=sigmoid", _PROBABILITIES),)
    return (Remedy("output=identity", "the outputs of a linear layer can be any number"),)


def _straight(chart: Chart, finding: Finding) -> Remedies:
    why = "a nonlinearity between them makes two maps more than one"
    return (
        Remedy("nonlinearity=relu", why),
        Remedy("nonlinearity=gelu", f"{why}, and it has a slope nearly everywhere"),
    )


_HE = Remedy("init=he", "variance is kept from layer to layer")
_APART = Remedy("init=orthogonal", "orthogonal weights keep units as different as can be")
_LSUV = Remedy("init=lsuv", "variance is set to 1 in each layer, on data")
_BATCH = Remedy(
    "norm=batch:standard", "pre-activations are brought to variance 1, whatever feeds them"
)
_LAYER = Remedy("norm=layer", "pre-activations of an example are brought to variance 1")
_SCALED = Remedy("standardize=input", "inputs of mean 0 and variance 1 reach both sides")


def _same(chart: Chart, finding: Finding) -> Remedies:
    return (Remedy("init=he", "random weights tell units apart"), _APART, _LSUV)


def _unscaled(chart: Chart, finding: Finding) -> Remedies:
    norm = Remedy(
        "norm=batch:standard", "normalised pre-activations do not depend on the inputs' scale"
    )
    slow = Remedy(slower(chart), "a step grows with the square of the inputs")
    changed = chart.readings.late("data_shift") >= chart.thresholds.data_shift
    return (norm, _SCALED, slow) if changed.any() else (_SCALED, norm, slow)


def _small(chart: Chart, finding: Finding) -> Remedies:
    return (_HE, _LSUV, _BATCH)


def _large(chart: Chart, finding: Finding) -> Remedies:
    return (_HE, _LSUV, _LAYER)


def _withered(chart: Chart, finding: Finding) -> Remedies:
    return (
        Remedy("weight_decay=0.0001", "the loss again pulls harder than the decay"),
        Remedy("weight_decay=0", "nothing but the loss moves the weights"),
    )


# Findings about steps


def _spiked(chart: Chart, finding: Finding) -> Remedies:
    return (_CLIP, _LIMIT, Remedy("lr=x0.1", "smaller steps survive a large gradient"))


def _fast(chart: Chart, finding: Finding) -> Remedies:
    slow = Remedy(slower(chart), "updates come down to a size from which units recover")
    if "raised" in finding.evidence:
        hold = Remedy("schedule=constant", "the rate stays where the training went well")
        back = Remedy(f"lr=x{rounded(1 / finding.evidence['raised'])}", "it undoes the rise")
        return (hold, back, _LIMIT)
    return (slow, Remedy("lr=x0.1", "smaller steps"), _LIMIT, _BATCH)


def _slow(chart: Chart, finding: Finding) -> Remedies:
    update = usual_update(chart)
    fast = Remedy(factor(update, "lr=x100"), "updates of a few thousandths are usual")
    early = largest_update(chart)
    if update < 0.03 * early:
        hold = Remedy("schedule=constant", "the rate no longer fades before anything is learnt")
        return (*_shaped(chart), hold, fast)
    return (*_shaped(chart), fast, Remedy("lr=x1000", "updates may be far too small"))


def _not_finite(chart: Chart, finding: Finding) -> Remedies:
    fill = Remedy("nan_to_num=input", "missing values and 0/0 in the input no longer spread")
    slow = Remedy("lr=x0.1", "a smaller step keeps weights and outputs in range")
    start = Remedy(
        "init=lsuv+lr=x0.1",
        "outputs of variance 1 and small steps overflow nowhere",
    )
    floor = Remedy("floor=1e-12", "log(0) and the slope of a root at 0 are infinite")
    both = Remedy("floor=1e-12+lr=x0.1", f"{floor.why}, and {slow.why}")
    slower = Remedy("lr=x0.01", "a still smaller step keeps weights and outputs in range")
    if (chart.history.last("loss") or {}).get("own") == "log":
        return (both, floor, slow, start, slower, _LIMIT)  # a logarithm that was written out
    if steep(chart):
        return (floor, both, fill, slow, start, _LIMIT)
    return (fill, start, slow, _LIMIT, slower)


def _unlearned(chart: Chart, finding: Finding) -> Remedies:
    return (
        *_shaped(chart),
        Remedy("lr=x10", "updates may be too small"),
        Remedy("lr=x0.1", "updates may jump over what is to be found"),
        _SCALED,
    )


def _shaped(chart: Chart) -> Remedies:
    """What helps where each output is compared with every target."""
    if not (chart.history.last("loss") or {}).get("broadcast"):
        return ()
    return (Remedy("output=squeeze", "outputs and targets of one shape are compared in pairs"),)


# Findings about units


def _born(chart: Chart, finding: Finding) -> Remedies:
    start = Remedy(
        "init=he", "weights scaled to the fan-in, without bias, fire on half of the inputs"
    )
    bent = Remedy(
        "activation=elu+norm=batch:standard", "no layer falls silent, however narrow and deep"
    )
    if stillborn(chart) >= _LIKELY:
        wide = Remedy("widen=64+init=he", "a wide layer is hardly ever silent as a whole")
        return (bent, wide, start)
    return (
        start,
        *_swap(chart, finding),
        bent,
        Remedy("init=asymmetric", "one weight or bias of each unit is drawn to be positive"),
    )


def _swap(chart: Chart, finding: Finding) -> Remedies:
    """The activation that may stand in for that of the worst site, if there is one."""
    states = _worst(chart, finding)
    swaps = () if states is None else states.site.activation.swaps
    why = "its slope is nowhere 0, so a silent unit can still learn"
    return (Remedy(f"activation={swaps[0]}", why),) if swaps else ()


def _worst(chart: Chart, finding: Finding) -> States | None:
    known = {states.site.name: states for states in chart}
    return next((known[name] for name in finding.sites if name in known), None)


#: Causes of death that say nothing of what happened during the training.
_FOLLOWS = ("unknown", "upstream-death", "born-dead")


def _causes(chart: Chart) -> list[str]:
    """Why units died during the training, the most frequent cause first."""
    count: Counter[str] = Counter()
    for states in chart:
        causes = chart.causes.get(states.site.name)
        if causes is not None:
            dead = states.are("dead", "saturated")
            count.update(CAUSES[code] for code in causes.code[dead] if code >= 0)
    return [name for name, _ in count.most_common() if name not in _FOLLOWS]


_DRIFT = Remedy(
    "norm=batch:standard", "whatever moves a whole unit is subtracted before it can silence it"
)


def _died(chart: Chart, finding: Finding) -> Remedies:
    slow = Remedy("lr=x0.1", "single updates no longer carry units past their threshold")
    swap = _swap(chart, finding)
    if next(iter(_causes(chart)), "unknown") not in ("bias-drift", "weight-drift", "input-shift"):
        return (slow, _CLIP, *swap, _DRIFT)
    both = [
        Remedy(f"{one.treatment}+norm=batch:standard", f"{_DRIFT.why}, and {one.why}")
        for one in swap
    ]
    return (*both, _DRIFT, *swap, slow, _CLIP)


def _saturated(chart: Chart, finding: Finding) -> Remedies:
    shrink = Remedy("init=xavier", "weights scaled to fan-in and fan-out keep z where it bends")
    slow = Remedy("lr=x0.1", "smaller updates keep z where the activation bends")
    norm = Remedy("norm=batch:standard", "normalised pre-activations stay off the flat ends")
    swap = _swap(chart, finding)
    worst = [site.name in finding.sites[:1] for site in chart.sites]
    if (chart.readings.first("z_rms")[worst] >= _BENT).any():
        return (shrink, norm, slow, *swap)
    return (norm, slow, *swap, shrink)


def _vanished(chart: Chart, finding: Finding) -> Remedies:
    return (
        Remedy("activation=leaky_relu+init=he", "its slope does not shrink a gradient"),
        _BATCH,
        _HE,
        Remedy("norm=layer", "z stays where the nonlinearity has a slope"),
    )


def _collapsed(chart: Chart, finding: Finding) -> Remedies:
    common = Remedy("norm=batch:standard", "what examples have in common is taken off")
    remedies = (
        common,
        Remedy("init=orthogonal", "orthogonal weights keep directions apart"),
        _LAYER,
    )
    units = [site.units for site in chart.sites]
    usual = int(np.median(units)) if units else 0
    if units and min(units) <= _NECK * usual:
        wide = Remedy(f"widen={usual}", "a narrow layer lets few directions through")
        return (wide, *remedies)
    return remedies


_BY_CODE: dict[str, Prescribe] = {
    "stale-gradients": _stale,
    "frozen-parameters": _frozen,
    "output-activation": _output,
    "missing-nonlinearity": _straight,
    "zero-init": _same,
    "duplicate-units": _same,
    "unscaled-input": _unscaled,
    "init-too-large": _large,
    "init-too-small": _small,
    "weight-decay-collapse": _withered,
    "exploding-gradient": _spiked,
    "learning-rate-too-high": _fast,
    "learning-rate-too-low": _slow,
    "non-finite": _not_finite,
    "no-learning": _unlearned,
    "born-dead": _born,
    "dying-relu": _died,
    "upstream-death": _died,
    "saturation": _saturated,
    "vanishing-gradient": _vanished,
    "rank-collapse": _collapsed,
}
