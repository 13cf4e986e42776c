"""Gated linear units: the product is the unit's output, and both maps feed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from looking import Unit, check_numbers, look, outputs_of

WIDTH = 12


def gelu_of_t5(z: Tensor) -> Tensor:
    inner = 0.7978845608028654 * (z + 0.044715 * torch.pow(z, 3.0))
    return 0.5 * z * (1.0 + torch.tanh(inner))


@dataclass(frozen=True)
class Gated:
    """A gated unit: what gates, and how the two halves are made."""

    act: Callable[[Tensor], Tensor]
    name: str
    gate_first: bool = True


GATED = {
    "SwiGLU": Gated(F.silu, "silu"),
    "GEGLU": Gated(F.gelu, "gelu", gate_first=False),
    "ReGLU": Gated(F.relu, "relu"),
    "GLU by hand": Gated(torch.sigmoid, "sigmoid", gate_first=False),
    "GEGLU of T5": Gated(gelu_of_t5, "gelu_tanh"),
}


class TwoMaps(nn.Module):
    def __init__(self, gated: Gated) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(7, WIDTH), nn.Linear(7, WIDTH, bias=False)
        self.down, self.gated = nn.Linear(WIDTH, 3), gated

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.gated.act(self.gate(x)), self.value(x)
        return self.down(gate * value if self.gated.gate_first else value * gate)


class OneMap(nn.Module):
    def __init__(self, gated: Gated) -> None:
        super().__init__()
        self.both, self.down, self.gated = nn.Linear(7, 2 * WIDTH), nn.Linear(WIDTH, 3), gated

    def forward(self, x: Tensor) -> Tensor:
        if self.gated.gate_first:
            gate, value = self.both(x).chunk(2, dim=-1)
        else:
            value, gate = self.both(x).split(WIDTH, dim=-1)
        return self.down(value * self.gated.act(gate))


@pytest.mark.parametrize("gated", [pytest.param(g, id=key) for key, g in GATED.items()])
def test_a_gated_unit_of_two_maps(gated):
    torch.manual_seed(0)
    model, x = TwoMaps(gated), torch.randn(9, 5, 7)
    seen = look(model, x)
    site = seen.only()
    assert (site.name, site.activation.name, site.units) == ("gate", gated.name, WIDTH)
    assert site.feeds == ("gate.weight", "gate.bias", "value.weight")
    assert site.reads == ("down.weight",)
    assert site.pulse == ("exact" if gated.name == "relu" else "none")
    assert not site.activation.piecewise_linear  # a product of two maps is not affine
    unit = Unit("gate", gated.act, times="value")
    check_numbers(seen.vitals["gate"], unit, outputs_of(model, x), site.activation.fires)
    assert seen.unplaced == {}


@pytest.mark.parametrize("gated", [pytest.param(g, id=key) for key, g in GATED.items()])
def test_a_gated_unit_of_one_fused_map(gated):
    torch.manual_seed(0)
    model, x = OneMap(gated), torch.randn(9, 5, 7)
    seen = look(model, x)
    site = seen.only()
    assert (site.name, site.activation.name, site.units) == ("both", gated.name, WIDTH)
    assert site.feeds == ("both.weight", "both.bias")
    assert site.reads == ("down.weight",)
    first, second = slice(0, WIDTH), slice(WIDTH, None)
    gate, value = (first, second) if gated.gate_first else (second, first)
    unit = Unit("both", gated.act, part=gate, times=value)
    check_numbers(seen.vitals["both"], unit, outputs_of(model, x), site.activation.fires)


@pytest.mark.parametrize(
    ("layer", "axis", "x"),
    [
        pytest.param(nn.Linear(7, 2 * WIDTH), -1, torch.randn(9, 7), id="Linear"),
        pytest.param(nn.Linear(7, 2 * WIDTH), -1, torch.randn(9, 5, 7), id="Linear on sequences"),
        pytest.param(nn.Conv1d(7, 2 * WIDTH, 2), 1, torch.randn(9, 7, 5), id="Conv1d"),
        pytest.param(nn.Conv2d(7, 2 * WIDTH, 2), 1, torch.randn(9, 7, 4, 4), id="Conv2d"),
    ],
)
def test_f_glu_gates_with_its_second_half(layer, axis, x):
    after = type(layer)(WIDTH, 3, *layer.kernel_size) if axis == 1 else nn.Linear(WIDTH, 3)
    model = nn.Sequential(layer, nn.GLU(axis), after)
    seen = look(model, x)
    site = seen.only()
    assert (site.name, site.activation.name, site.units) == ("0", "sigmoid", WIDTH)
    assert site.reads == ("2.weight",)
    unit = Unit("0", torch.sigmoid, axis, slice(WIDTH, None), slice(0, WIDTH))
    check_numbers(seen.vitals["0"], unit, outputs_of(model, x), site.activation.fires)


def test_where_both_factors_are_nonlinear_the_gate_is_no_site():
    """WaveNet's unit: tanh of one map, scaled by the sigmoid of another."""
    model = nn.ModuleDict(
        {"f": nn.Linear(7, WIDTH), "g": nn.Linear(7, WIDTH), "o": nn.Linear(WIDTH, 3)}
    )

    class WaveNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.g, self.o = model["f"], model["g"], model["o"]

        def forward(self, x: Tensor) -> Tensor:
            return self.o(torch.tanh(self.f(x)) * torch.sigmoid(self.g(x)))

    wave, x = WaveNet(), torch.randn(9, 7)
    seen = look(wave, x)
    site = seen.only()
    assert (site.name, site.activation.name) == ("f", "tanh")
    assert site.feeds == ("f.weight", "f.bias", "g.weight", "g.bias")
    assert list(seen.unplaced) == ["g (sigmoid)"]
    outputs = outputs_of(wave, x)
    outputs["gate"] = torch.sigmoid(outputs["g"])
    check_numbers(
        seen.vitals["f"], Unit("f", torch.tanh, times="gate"), outputs, site.activation.fires
    )
