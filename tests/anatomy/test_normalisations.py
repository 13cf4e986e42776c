"""Normalisations before and after the activation: their units, and the pulse they leave."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from looking import Net, check, look, params

Linear = nn.Linear


def conv(kind: str, dims: int):
    return getattr(nn, f"Conv{kind}{dims}d")


def norms():
    for dims in (1, 2, 3):
        x = torch.randn(4, 3, *[5] * dims)
        layer, more = conv("", dims)(3, 6, 2), conv("", dims)(6, 2, 1)
        yield f"BatchNorm{dims}d", layer, getattr(nn, f"BatchNorm{dims}d")(6), more, x, 1
        yield f"GroupNorm {dims}d", layer, nn.GroupNorm(2, 6), more, x, 1
        instance = getattr(nn, f"InstanceNorm{dims}d")(6, affine=True)
        yield f"InstanceNorm{dims}d", layer, instance, more, x, 1
    x = torch.randn(9, 7)
    yield "BatchNorm1d on rows", Linear(7, 6), nn.BatchNorm1d(6), Linear(6, 2), x, -1
    yield "LayerNorm", Linear(7, 6), nn.LayerNorm(6), Linear(6, 2), x, -1
    yield "LayerNorm on tokens", Linear(7, 6), nn.LayerNorm(6), Linear(6, 2), x[:, None], -1
    yield "RMSNorm", Linear(7, 6), nn.RMSNorm(6), Linear(6, 2), x, -1


NORMS = [pytest.param(*row[1:], id=row[0]) for row in norms()]


def perturbed(norm):
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)
    return norm


@pytest.mark.parametrize(("layer", "norm", "more", "x", "axis"), NORMS)
def test_a_normalisation_before_the_activation_makes_the_pre_activation(layer, norm, more, x, axis):
    model = nn.Sequential(layer, perturbed(norm), nn.ReLU(), more)
    feeds = params("0") + params("1", bias=getattr(norm, "bias", None) is not None)
    check(model, x, name="1", units=6, feeds=feeds, reads=["3.weight"], axis=axis)


@pytest.mark.parametrize(("layer", "norm", "more", "x", "axis"), NORMS)
def test_a_normalisation_after_the_activation_reads_it(layer, norm, more, x, axis):
    model = nn.Sequential(layer, nn.ReLU(), perturbed(norm), more)
    check(model, x, name="0", units=6, feeds=params("0"), reads=["2.weight"], axis=axis)


@pytest.mark.parametrize(("layer", "norm", "more", "x", "axis"), NORMS)
def test_a_normalisation_before_the_layer_is_no_feed(layer, norm, more, x, axis):
    """Pre-activation order: norm, activation, layer."""
    model = nn.Sequential(layer, nn.Identity(), norm, nn.ReLU(), more, nn.Tanh())
    seen = look(model, x)
    assert seen.described() == {"2": ("relu", 6), "4": ("tanh", 2)}
    assert seen.sites["4"].feeds == params("4")


PLAIN = {
    "BatchNorm1d": (nn.BatchNorm1d(6, affine=False), "sampled"),
    "InstanceNorm1d": (nn.InstanceNorm1d(6), "sampled"),
    "GroupNorm": (nn.GroupNorm(3, 6, affine=False), "none"),
    "LayerNorm over all": (nn.LayerNorm([6, 4]), "none"),
    "LayerNorm without parameters": (nn.LayerNorm([6, 4], elementwise_affine=False), "none"),
    # Over the positions rather than the channels: the units are still the channels.
    "LayerNorm over positions": (nn.LayerNorm(4), "none"),
}


@pytest.mark.parametrize("key", PLAIN)
def test_what_a_normalisation_leaves_of_the_pulse(key):
    """Across units, gradients of the layer speak of several; within one, the weight still tells."""
    norm, pulse = PLAIN[key]
    model = nn.Sequential(nn.Conv1d(3, 6, 2), norm, nn.ReLU(), nn.Conv1d(6, 2, 1))
    feeds = params("0") + tuple(f"1.{name}" for name, _ in norm.named_parameters())
    x = torch.randn(4, 3, 5)
    check(model, x, name="1", units=6, feeds=feeds, reads=["3.weight"], pulse=pulse, axis=1)


def test_a_normalisation_on_the_input_makes_units_of_its_own():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 2))
    x = torch.randn(4, 3, 5, 5)
    check(model, x, name="0", units=3, feeds=params("0"), reads=["2.weight"], axis=1)


def test_an_instance_norm_on_the_input_has_one_unit_per_channel():
    model = nn.Sequential(nn.InstanceNorm2d(3, affine=True), nn.ReLU(), nn.Conv2d(3, 4, 2))
    x = torch.randn(4, 3, 5, 5)
    check(model, x, name="0", units=3, feeds=params("0"), reads=["2.weight"], axis=1)


def rms_by_hand(model, h):
    return model.g * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6))


def layer_norm_by_hand(model, h):
    centred = h - h.mean(-1, keepdim=True)
    return model.g * (centred / (h.var(-1, keepdim=True) + 1e-5).sqrt())


@pytest.mark.parametrize("norm", [rms_by_hand, layer_norm_by_hand], ids=["RMS", "layer norm"])
def test_a_normalisation_written_by_hand_is_no_nonlinearity(norm):
    model = Net(
        lambda m, x: m.b(F.relu(norm(m, m.a(x)))),
        a=Linear(7, 6),
        b=Linear(6, 2),
        g=nn.Parameter(torch.rand(6)),
    )
    seen = look(model, torch.randn(9, 7))
    site = seen.only()
    assert (site.name, site.units, site.pulse) == ("a", 6, "exact")
    assert site.feeds == (*params("a"), "g")
    assert seen.unplaced == {}


def test_a_frozen_batch_norm_of_buffers_changes_nothing():
    def run(m, x):
        return m.b(F.relu(m.a(x) * m.scale + m.shift))

    model = Net(
        run,
        a=nn.Conv2d(3, 6, 2, bias=False),
        b=nn.Conv2d(6, 2, 1),
        scale=nn.Buffer(torch.rand(1, 6, 1, 1) + 0.5),
        shift=nn.Buffer(torch.randn(1, 6, 1, 1)),
    )
    site = look(model, torch.randn(4, 3, 5, 5)).only()
    assert (site.name, site.units, site.pulse) == ("a", 6, "sampled")
