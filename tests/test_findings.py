"""Findings: said when they hold, as bad as they are, and not said when they do not hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flatline import activations
from flatline.anatomy.site import Site
from flatline.diagnose.certainty import Certainty
from flatline.diagnose.chart import Chart
from flatline.diagnose.diagnose import Diagnosis, diagnose
from flatline.diagnose.findings import CODES, SEVERITIES, Finding, base, units, verdict
from flatline.sense.vitals import Ledger, Vitals
from flatline.treatments.registry import parse_all


def site(units: int, activation: str = "relu", name: str = "net.0", *, hidden: bool = True) -> Site:
    reads = ("net.2.weight",) if hidden else ()
    return Site(name, activations.get(activation), units, reads=reads)


def lively(units: int, examples: int = 5120) -> Vitals:
    """Units that are all healthy."""
    even = np.full(units, examples // 2, np.int32)
    one = np.ones(units, np.float32)
    return replace(
        Vitals.empty(units),
        examples=examples,
        fired=even,
        z_min=-one,
        z_max=one,
        h_min=0 * one,
        h_max=one,
        h_abs=np.full(units, examples / 4),
        z_sq=np.full(units, float(examples)),
        twin=np.arange(units, dtype=np.int32),
        ignored=np.zeros(units, bool),
        gradient=one,
        update=one,
    )


def with_dead(vitals: Vitals, number: int) -> Vitals:
    """The first units silent."""
    dead = np.arange(vitals.units) < number
    zero = np.float32(0)
    return replace(
        vitals,
        fired=np.where(dead, 0, vitals.fired).astype(np.int32),
        h_max=np.where(dead, zero, vitals.h_max),
        z_max=np.where(dead, np.float32(-0.5), vitals.z_max),
        h_abs=np.where(dead, 0.0, vitals.h_abs),
    )


def ledger(units: int, dead: int, last: int, first: int, silent: int = 5120) -> Ledger:
    """The first units silent since ``last``."""
    gone = np.arange(units) < dead
    return Ledger(
        np.where(gone, last, 50).astype(np.int32),
        np.where(gone, first, -1).astype(np.int32),
        np.where(gone, silent, 0).astype(np.int64),
        np.ones(units, bool),
    )


def only(diagnosis: Diagnosis) -> Finding:
    (found,) = diagnosis.findings
    return found


def test_a_healthy_net_has_no_finding() -> None:
    found = diagnose([site(64)], {"net.0": lively(64)}, {"net.0": ledger(64, 0, 0, 0)})
    assert found.findings == ()
    assert found.verdict == "healthy"
    assert found.sites["net.0"].counts() == {"healthy": 64}


def test_the_message_has_the_numbers() -> None:
    found = only(
        diagnose([site(128, name="features.3")], {"features.3": with_dead(lively(128), 37)})
    )
    assert found.message == (
        "37 of 128 units of site features.3 (relu) never fired for 5,120 examples "
        "(firing rate below 0.0009, 99% confidence)"
    )
    assert (found.code, found.severity) == ("dying-relu", "warning")
    assert found.share == 37 / 128
    assert found.evidence["affected"] == 37
    assert found.evidence["firing_rate_upper"] == pytest.approx(1 - 0.01 ** (1 / 5120))
    assert found.evidence["silent_by_chance"] < 1e-18


@pytest.mark.parametrize(
    ("last", "first", "code", "says"),
    [
        pytest.param(-1, 0, "born-dead", "never fired, from the first step on", id="born"),
        pytest.param(7, 9, "dying-relu", "stopped firing at step 8", id="died"),
    ],
)
def test_the_time_of_death_tells_born_dead_from_dying(
    last: int, first: int, code: str, says: str
) -> None:
    book = {"net.0": ledger(16, 4, last, first)}
    found = only(diagnose([site(16)], {"net.0": with_dead(lively(16), 4)}, book))
    assert found.code == code
    assert says in found.message


def test_a_death_seen_by_exams_only_is_given_as_a_range() -> None:
    book = replace(ledger(16, 4, 7, 9), exact=np.zeros(16, bool))
    found = only(diagnose([site(16)], {"net.0": with_dead(lively(16), 4)}, {"net.0": book}))
    assert "stopped firing between steps 8 and 9" in found.message


@pytest.mark.parametrize(
    ("dead", "units", "hidden", "severity"),
    [
        pytest.param(4, 100, True, "info", id="below 5 %"),
        pytest.param(5, 100, True, "warning", id="5 %"),
        pytest.param(29, 100, True, "warning", id="below 30 %"),
        pytest.param(30, 100, True, "critical", id="30 %"),
        pytest.param(99, 100, False, "warning", id="output site"),
        pytest.param(6, 7, True, "warning", id="narrow site"),
        pytest.param(3, 8, True, "critical", id="eight units"),
        pytest.param(7, 7, True, "critical", id="nothing left"),
        pytest.param(1, 1, False, "critical", id="constant output"),
    ],
)
def test_severity_follows_harm(dead: int, units: int, hidden: bool, severity: str) -> None:
    found = diagnose([site(units, hidden=hidden)], {"net.0": with_dead(lively(units), dead)})
    assert only(found).severity == severity
    assert found.verdict == {"info": "healthy", "warning": "warning", "critical": "sick"}[severity]


def test_what_is_left_may_be_constant() -> None:
    vitals = with_dead(lively(7), 3)
    still = np.where(np.arange(7) >= 3, np.float32(0.5), vitals.h_max).astype(np.float32)
    vitals = replace(vitals, h_min=np.where(np.arange(7) >= 3, still, vitals.h_min), h_max=still)
    found = diagnose([site(7)], {"net.0": vitals})
    assert found.sites["net.0"].counts() == {"dead": 3, "constant": 4}
    assert only(found).severity == "critical"


def test_too_few_examples_make_no_finding() -> None:
    found = diagnose([site(64)], {"net.0": with_dead(lively(64, 458), 40)})
    assert found.findings == ()
    assert found.sites["net.0"].silent_so_far == 40
    assert found.sites["net.0"].counts()["dead"] == 40


def test_the_worst_site_leads() -> None:
    sites = [site(100, name=f"net.{i}") for i in range(6)]
    dead = [6, 40, 0, 3, 8, 5]
    windows = {s.name: with_dead(lively(100), n) for s, n in zip(sites, dead, strict=True)}
    found = only(diagnose(sites, windows))
    assert found.sites == ("net.1", "net.4", "net.0", "net.5", "net.3")
    assert (found.share, found.severity) == (0.4, "critical")
    assert found.message.endswith(
        "; the same in 4 more sites (net.4: 8%, net.0: 6%, net.5: 5% and 1 more)"
    )


def change(vitals: Vitals, number: int, **values: object) -> Vitals:
    """The first units with other values."""
    first = np.arange(vitals.units) < number
    changed = {
        name: np.where(first, value, getattr(vitals, name)).astype(getattr(vitals, name).dtype)
        for name, value in values.items()
    }
    return replace(vitals, **changed)


@pytest.mark.parametrize(
    ("code", "activation", "values", "number", "severity"),
    [
        pytest.param("non-finite", "relu", {"nonfinite": True}, 1, "critical", id="nan"),
        pytest.param("saturation", "tanh", {"railed": 5000}, 6, "critical", id="saturated"),
        pytest.param("saturation", "tanh", {"railed": 5000}, 1, "warning", id="one saturated"),
        pytest.param("saturation", "relu6", {"railed": 5000}, 6, "critical", id="upper rail"),
        pytest.param("duplicate-units", "relu", {"twin": 0}, 10, "critical", id="copies"),
        pytest.param("dormant-units", "relu", {"h_abs": 1e-9}, 6, "warning", id="dormant"),
        pytest.param("dormant-units", "relu", {"h_abs": 1e-9}, 2, "info", id="few dormant"),
        pytest.param("ignored-units", "relu", {"ignored": True}, 18, "warning", id="ignored"),
        pytest.param("linear-units", "relu", {"z_min": 0.5, "h_min": 0.5}, 18, "info", id="linear"),
    ],
)
def test_each_state_has_its_finding(code, activation, values, number, severity) -> None:
    found = only(diagnose([site(18, activation)], {"net.0": change(lively(18), number, **values)}))
    assert (found.code, found.severity) == (code, severity)
    # Of a group of copies the first is no copy.
    affected = number - 1 if code == "duplicate-units" else number
    assert found.share == affected / 18
    assert found.message.startswith(f"{affected} of 18 units of site net.0 ({activation}) ")


def test_an_unvisited_site_is_no_illness() -> None:
    found = diagnose([site(8), site(8, name="expert")], {"net.0": lively(8)})
    assert (only(found).code, only(found).severity) == ("unvisited-units", "info")
    assert only(found).sites == ("expert",)
    assert found.verdict == "healthy"


def test_a_dead_sigmoid_is_called_saturated() -> None:
    vitals = change(lively(16), 2, fired=0, h_min=1.0, h_max=1.0, railed=5120, z_min=20, z_max=30)
    found = only(diagnose([site(16, "sigmoid")], {"net.0": vitals}, {"net.0": ledger(16, 2, 3, 4)}))
    assert found.code == "saturation"
    assert "dying" not in found.message


def test_starved_units_are_judged_by_the_largest_gradient_of_the_model() -> None:
    early = change(lively(8), 8, gradient=1e-9, update=1e-9)
    alone = diagnose([site(8)], {"net.0": early})
    assert alone.sites["net.0"].counts() == {"healthy": 8}
    both = diagnose([site(8), site(8, name="late")], {"net.0": early, "late": lively(8)})
    assert both.sites["net.0"].counts() == {"starved": 8}


def test_the_most_severe_finding_comes_first() -> None:
    vitals = change(with_dead(lively(100), 6), 99, z_min=0.5)
    vitals = change(vitals, 6, z_min=-1.0)
    vitals = replace(vitals, nonfinite=np.arange(100) == 99)
    found = diagnose([site(100)], {"net.0": vitals})
    assert [one.code for one in found.findings] == ["non-finite", "dying-relu", "linear-units"]
    assert found.verdict == "sick"


def test_remedies_name_treatments_that_exist() -> None:
    for activation in ("relu", "relu6", "gelu", "tanh", "sigmoid"):
        for values in ({"twin": 0}, {"railed": 5000}, {"nonfinite": True}, {"h_abs": 1e-9}):
            vitals = change(with_dead(lively(18), 2), 9, **values)
            for one in diagnose([site(18, activation)], {"net.0": vitals}).findings:
                assert one.code in CODES
                assert one.severity in SEVERITIES
                for remedy in one.remedies:
                    assert parse_all([remedy.treatment])
                    assert remedy.why


def test_a_finding_is_registered_under_a_known_code() -> None:
    with pytest.raises(ValueError, match="found 'dead-relu'"):
        base.finding("dead-relu")


@pytest.mark.parametrize("search", base._SEARCHES.values(), ids=base._SEARCHES.keys())
def test_each_finding_says_what_it_rests_on(search) -> None:
    text = " ".join((search.__doc__ or "").split())
    assert "Evidence:" in text
    assert "Avoids:" in text or search is units.non_finite
    assert search(Chart([])) is None


def test_verdict_is_the_highest_severity() -> None:
    def one(severity: str) -> Finding:
        return Finding("dying-relu", severity, (), 0.0, "")

    assert verdict([one("info"), one("critical"), one("warning")]) == "sick"
    assert verdict([one("info"), one("warning")]) == "warning"
    assert verdict([one("info")]) == "healthy"


def test_a_model_without_sites() -> None:
    assert diagnose([], {}) == Diagnosis({}, {}, (), "healthy", Certainty())
