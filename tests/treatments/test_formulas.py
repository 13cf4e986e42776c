"""Initialisers and clippers against closed forms, and against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest, norm
from torch import Generator, nn

from flatline import activations
from flatline.anatomy.atlas import Place
from flatline.treatments import clipping, initialise


def seeded() -> Generator:
    return Generator().manual_seed(7)


def site(name: str, *constants: float) -> Place:
    return Place("0", activations.get(name, *constants), 4, 0, 1, ())


def with_gradients(*shapes: tuple[int, ...], scale: float = 1.0) -> list[nn.Parameter]:
    torch.manual_seed(0)
    made = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    for one in made:
        one.grad = scale * torch.randn_like(one)
    return made


def gradients(parameters) -> list[torch.Tensor]:
    return [one.grad.clone() for one in parameters]


@pytest.mark.parametrize("shape", [(512, 300), (256, 16, 3, 3)])
@pytest.mark.parametrize(
    ("place", "gain"), [(site("relu"), 2.0), (site("leaky_relu", 0.5), 1.6), (None, 1.0)]
)
def test_he_weights_have_the_variance_of_the_paper(shape, place, gain):
    weight = torch.empty(shape)

    initialise.he(weight, place, seeded())

    fan_in = weight[0].numel()
    assert weight.mean().abs() < 5 * (gain / fan_in / weight.numel()) ** 0.5
    assert weight.var().item() == pytest.approx(gain / fan_in, rel=0.03)


def test_xavier_and_orthogonal_are_torchs_own():
    ours, theirs = torch.empty(30, 20), torch.empty(30, 20)

    initialise.xavier(ours, None, seeded())
    nn.init.xavier_uniform_(theirs, generator=seeded())
    assert torch.equal(ours, theirs)

    initialise.orthogonal(ours, None, seeded())
    assert torch.allclose(ours.T @ ours, torch.eye(20), atol=1e-5)

    initialise.orthogonal(ours, site("relu"), seeded())
    assert torch.allclose(ours.T @ ours, 2 * torch.eye(20), atol=1e-5)


def test_asymmetric_rows_have_one_beta_number_among_normal_ones():
    weight, bias = torch.empty(20_000, 9), torch.empty(20_000)

    initialise.asymmetric(weight, bias, seeded())

    drawn = torch.cat([weight, bias[:, None]], 1).flatten().numpy()
    tenth, sigma = 0.1, 0.6007 / 3

    def mixture(x):
        return tenth * beta(2, 1).cdf(x) + (1 - tenth) * norm(0, sigma).cdf(x)

    assert kstest(drawn, mixture).pvalue > 0.001
    assert kstest(bias.numpy(), mixture).pvalue > 0.001  # every place is as likely


def test_asymmetric_without_a_bias_puts_the_beta_number_among_the_weights():
    weight = torch.empty(5000, 1)

    initialise.asymmetric(weight, None, seeded())

    assert kstest(weight.flatten().numpy(), beta(2, 1).cdf).pvalue > 0.001


@pytest.mark.parametrize("limit", [0.1, 100.0])
def test_adaptive_clipping_bounds_each_unit_by_its_own_weights(limit):
    parameters = with_gradients((6, 5), (4, 3, 2, 2), (7,))
    parameters[0].data[2] = 0
    before = gradients(parameters)

    clipping.adaptive(parameters, limit)

    for parameter, old in zip(parameters, before, strict=True):
        units = range(len(parameter)) if parameter.ndim > 1 else [slice(None)]
        for unit in units:
            most = limit * max(parameter.detach()[unit].norm().item(), 1e-3)
            size = old[unit].norm().item()
            want = old[unit] * min(1.0, most / size)
            assert torch.allclose(parameter.grad[unit], want, rtol=1e-5)


def test_percentile_clipping_counts_the_norm_at_hand():
    clip, norms = clipping.Percentile(), []
    for step in range(6):
        parameters = with_gradients((3, 4), (5,), scale=float(1 + (5 * step) % 7))
        old = gradients(parameters)
        norms.append(float(torch.cat([one.flatten() for one in old]).norm()))
        limit = float(np.percentile(norms, 40))

        clip(parameters, 40)

        for parameter, one in zip(parameters, old, strict=True):
            want = one * min(1.0, limit / (norms[-1] + 1e-6))
            assert torch.allclose(parameter.grad, want, rtol=1e-5)


def test_a_norm_that_is_not_finite_spoils_no_later_percentile():
    clip = clipping.Percentile()
    bad = with_gradients((3,))
    bad[0].grad[0] = torch.inf
    clip(bad, 50)
    good = with_gradients((3,))
    old = gradients(good)

    clip(good, 50)

    assert torch.allclose(good[0].grad, old[0], rtol=1e-5)


@pytest.mark.parametrize("limit", [0.3, 50.0])
def test_norm_and_value_clipping_by_their_definitions(limit):
    parameters = with_gradients((6, 5), (7,))
    old = gradients(parameters)
    total = float(torch.cat([one.flatten() for one in old]).norm())

    clipping.norm(parameters, limit)
    for parameter, one in zip(parameters, old, strict=True):
        assert torch.allclose(parameter.grad, one * min(1.0, limit / total), rtol=1e-4)

    parameters = with_gradients((6, 5), (7,))
    clipping.value(parameters, limit)
    for parameter, one in zip(parameters, old, strict=True):
        assert torch.equal(parameter.grad, one.clamp(-limit, limit))
