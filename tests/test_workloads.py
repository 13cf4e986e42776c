"""The workloads are what they claim to be: repeatable, and with the deaths they are there for."""

import pytest
import torch

from brute_force import truth
from workloads import WORKLOADS

everywhere = pytest.mark.parametrize("name", WORKLOADS)


def trained(name):
    training = WORKLOADS[name].build()
    for _ in range(3):
        training.step()
    return training.model.state_dict(), torch.get_rng_state()


@everywhere
def test_two_builds_train_to_the_same_bits(name):
    (first, first_rng), (second, second_rng) = trained(name), trained(name)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(first_rng, second_rng)


@everywhere
def test_brute_force_watches_without_touching(name):
    workload = WORKLOADS[name]
    training = workload.build()
    for _ in range(workload.steps):
        training.step()
    bare = torch.get_rng_state()
    sites = truth(workload)
    assert torch.equal(bare, torch.get_rng_state())
    assert [*sites] == [probe.name for probe in workload.probes]
    assert all(len(site.examples) == workload.steps for site in sites.values())


def dead_share(name, site, last=5):
    seen = truth(WORKLOADS[name])[site]
    return seen.dead(len(seen.examples) - last).mean()


@pytest.mark.parametrize(
    ("name", "site", "low", "high"),
    [
        ("mlp_relu", "0", 0.0, 0.0),
        ("mlp_relu", "2", 0.0, 0.0),
        ("mlp_relu_killed", "2", 0.5, 0.99),
        ("mlp_relu_collapsed", "2", 1.0, 1.0),
        ("penalty_in_loss", "2", 0.05, 0.5),
        ("dead_downstream", "0", 0.0, 0.0),
        ("dead_downstream", "2", 1.0, 1.0),
    ],
)
def test_units_die_where_they_should(name, site, low, high):
    assert low <= dead_share(name, site) <= high


def test_the_last_life_of_a_unit_that_never_fired_is_minus_one():
    site = truth(WORKLOADS["dead_downstream"])["2"]
    assert (site.last_life == -1).all()
    assert (site.silent_examples == site.examples.sum()).all()


def test_units_whose_readers_are_zero_still_fire():
    site = truth(WORKLOADS["zero_outgoing"])["0"]
    assert (site.fired[-5:, :6].sum(axis=0) > 0).all()


def test_a_flat_loss_gives_zero_gradients_to_living_units():
    training = WORKLOADS["saturated_loss"].build()
    for _ in range(WORKLOADS["saturated_loss"].steps):
        training.step()
    assert all((p.grad == 0).all() for p in training.model.parameters())
    assert dead_share("saturated_loss", "0", last=1) < 1
