"""Every activation is placed, however it is written, with the numbers of the right units."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from looking import Unit, check_numbers, look, outputs_of

WIDTH = 12


class Form(nn.Module):
    """One way to write an activation, between two linear layers."""

    def __init__(self, act: Callable[[Tensor], Tensor], width: int, out: int) -> None:
        super().__init__()
        self.before = nn.Linear(7, width)
        self.act = act
        self.after = nn.Linear(out, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.act(self.before(x)))


def built(act: Callable[[Tensor], Tensor], width: int = WIDTH) -> tuple[Form, Tensor]:
    torch.manual_seed(0)
    x = 3 * torch.randn(9, 5, 7)
    out = act(torch.zeros(1, width)).shape[-1]
    model = Form(act, width, out)
    with torch.no_grad():
        model.before.weight[1] = 0
        model.before.bias[1] = -2.0  # a unit that never fires, if the activation can be silent
    return model, x


def placed(act: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor] | None = None):
    """The only site of a model with this activation, with its numbers checked."""
    model, x = built(act)
    seen = look(model, x)
    (vitals,) = seen.vitals.values()
    unit = Unit("before", plain or act)
    check_numbers(vitals, unit, outputs_of(model, x), seen.only().activation.fires)
    assert seen.unplaced == {}
    site = seen.only()
    assert site.name == "before"
    assert site.units == WIDTH
    assert site.feeds == ("before.weight", "before.bias")
    assert site.reads == ("after.weight",)
    return site


def inplace(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same on a copy, for the truth."""
    return lambda z: function(z.clone())


MODULES = [
    # module, name, constants, pulse
    (nn.ReLU(), "relu", (), "exact"),
    (nn.ReLU6(), "relu6", (), "exact"),
    (nn.Hardtanh(), "hardtanh", (-1, 1), "exact"),
    (nn.Hardtanh(-2.0, 0.5), "hardtanh", (-2, 0.5), "exact"),
    (nn.Hardtanh(0.0, 6.0), "relu6", (), "exact"),
    (nn.LeakyReLU(), "leaky_relu", (0.01,), "none"),
    (nn.LeakyReLU(0.2), "leaky_relu", (0.2,), "none"),
    (nn.LeakyReLU(0.0), "leaky_relu", (0.0,), "exact"),
    (nn.PReLU(), "prelu", (), "none"),
    (nn.ELU(), "elu", (1.0,), "none"),
    (nn.ELU(0.5), "elu", (0.5,), "none"),
    (nn.SELU(), "selu", (), "none"),
    (nn.CELU(), "celu", (1.0,), "none"),
    (nn.CELU(2.0), "celu", (2.0,), "none"),
    (nn.GELU(), "gelu", (), "none"),
    (nn.GELU("tanh"), "gelu_tanh", (), "none"),
    (nn.SiLU(), "silu", (), "none"),
    (nn.Mish(), "mish", (), "none"),
    (nn.Softplus(), "softplus", (1.0, 20.0), "none"),
    (nn.Softplus(2.0, 10.0), "softplus", (2.0, 10.0), "none"),
    (nn.Sigmoid(), "sigmoid", (), "none"),
    (nn.Hardsigmoid(), "hardsigmoid", (), "exact"),
    (nn.Hardswish(), "hardswish", (), "none"),
    (nn.Tanh(), "tanh", (), "none"),
    (nn.Softsign(), "softsign", (), "none"),
    (nn.Threshold(0.1, -2.0), "threshold", (0.1, -2.0), "exact"),
    (nn.Threshold(0.0, 0.0), "relu", (), "exact"),
    (nn.LogSigmoid(), "logsigmoid", (), "none"),
]


@pytest.mark.parametrize(
    ("module", "name", "constants", "pulse"),
    [pytest.param(*row, id=repr(row[0])) for row in MODULES],
)
def test_a_module(module, name, constants, pulse):
    if isinstance(module, nn.PReLU):
        with torch.no_grad():
            module.weight.uniform_(0.1, 0.9)
    site = placed(module, lambda z: module(z).detach())
    assert (site.activation.name, site.activation.constants) == (name, constants)
    assert site.pulse == pulse


INPLACE = [
    nn.ReLU(inplace=True),
    nn.ReLU6(inplace=True),
    nn.Hardtanh(inplace=True),
    nn.LeakyReLU(0.1, inplace=True),
    nn.ELU(inplace=True),
    nn.SELU(inplace=True),
    nn.CELU(inplace=True),
    nn.SiLU(inplace=True),
    nn.Mish(inplace=True),
    nn.Hardswish(inplace=True),
    nn.Hardsigmoid(inplace=True),
    nn.Threshold(0.1, -2.0, inplace=True),
]


@pytest.mark.parametrize("module", [pytest.param(m, id=repr(m)) for m in INPLACE])
def test_a_module_in_place(module):
    name = {"Hardtanh": "hardtanh", "LeakyReLU": "leaky_relu"}
    site = placed(module, inplace(module))
    kind = type(module).__name__
    assert site.activation.name == name.get(kind, kind.lower())


FUNCTIONS = {
    "F.relu": (F.relu, "relu"),
    "F.relu_": (F.relu_, "relu"),
    "torch.relu": (torch.relu, "relu"),
    "torch.relu_": (torch.relu_, "relu"),
    "x.relu()": (lambda z: z.relu(), "relu"),
    "x.relu_()": (lambda z: z.relu_(), "relu"),
    "x.clamp(min=0)": (lambda z: z.clamp(min=0), "relu"),
    "x.clamp_(min=0)": (lambda z: z.clamp_(min=0), "relu"),
    "x.clip(0)": (lambda z: z.clip(0), "relu"),
    "x.clamp_min(0)": (lambda z: z.clamp_min(0), "relu"),
    "torch.clamp_min(x, 0.0)": (lambda z: torch.clamp_min(z, 0.0), "relu"),
    "clamp by a tensor": (lambda z: torch.clamp(z, min=torch.tensor(0.0)), "relu"),
    "maximum with a number": (lambda z: torch.maximum(z, torch.tensor(0.0)), "relu"),
    "maximum with zeros": (lambda z: torch.maximum(z, torch.zeros_like(z)), "relu"),
    "maximum of zeros": (lambda z: torch.maximum(torch.zeros_like(z), z), "relu"),
    "torch.max with zeros": (lambda z: torch.max(z, torch.zeros_like(z)), "relu"),
    "where to zeros": (lambda z: torch.where(z > 0, z, torch.zeros_like(z)), "relu"),
    "where to a number": (lambda z: torch.where(z > 0, z, 0.0), "relu"),
    "times a mask": (lambda z: z * (z > 0), "relu"),
    "masked_fill": (lambda z: z.masked_fill(z < 0, 0.0), "relu"),
    "half of x + |x|": (lambda z: (z + z.abs()) / 2, "relu"),
    "relu twice": (lambda z: F.relu(F.relu(z)), "relu"),
    "F.threshold at 0": (lambda z: F.threshold(z, 0, 0), "relu"),
    "x.clamp(0, 6)": (lambda z: z.clamp(0, 6), "relu6"),
    "x.clamp(-1, 1)": (lambda z: z.clamp(-1, 1), "hardtanh"),
    "x.clamp(max=0)": (lambda z: z.clamp(max=0.0), "hardtanh"),
    "x.clamp(min=-1)": (lambda z: z.clamp(min=-1.0), "threshold"),
    "F.hardtanh_": (F.hardtanh_, "hardtanh"),
    "F.leaky_relu_": (F.leaky_relu_, "leaky_relu"),
    "F.elu_": (F.elu_, "elu"),
    "F.selu_": (F.selu_, "selu"),
    "F.celu_": (F.celu_, "celu"),
    "F.silu in place": (partial(F.silu, inplace=True), "silu"),
    "x.sigmoid_()": (lambda z: z.sigmoid_(), "sigmoid"),
    "torch.special.expit": (torch.special.expit, "sigmoid"),
    "x.tanh_()": (lambda z: z.tanh_(), "tanh"),
    "F.logsigmoid": (F.logsigmoid, "logsigmoid"),
}


@pytest.mark.parametrize(
    ("act", "name"), [pytest.param(*row, id=key) for key, row in FUNCTIONS.items()]
)
def test_a_function_or_method(act, name):
    assert placed(act, inplace(act)).activation.name == name


def gelu_of_gpt2(z: Tensor) -> Tensor:
    inner = math.sqrt(2 / math.pi) * (z + 0.044715 * torch.pow(z, 3.0))
    return 0.5 * z * (1.0 + torch.tanh(inner))


def gelu_of_bloom(z: Tensor) -> Tensor:
    return z * 0.5 * (1.0 + torch.tanh(0.79788456 * z * (1 + 0.044715 * z * z)))


class Swish(torch.autograd.Function):
    """A memory-saving SiLU, as older vision models have it."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * torch.sigmoid(z)

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        s = torch.sigmoid(z)
        return g * s * (1 + z * (1 - s))


COMPOSITES = {
    "NewGELUActivation": (gelu_of_gpt2, "gelu_tanh"),
    "BloomGelu": (gelu_of_bloom, "gelu_tanh"),
    "GELU written out": (lambda z: z * 0.5 * (1.0 + torch.erf(z / math.sqrt(2.0))), "gelu"),
    "GELU by erfc": (lambda z: 0.5 * z * torch.erfc(-z * math.sqrt(0.5)), "gelu"),
    "QuickGELU": (lambda z: z * torch.sigmoid(1.702 * z), "quick_gelu"),
    "x * sigmoid(x)": (lambda z: z * torch.sigmoid(z), "silu"),
    "sigmoid(x) * x": (lambda z: torch.sigmoid(z) * z, "silu"),
    "x / (1 + exp(-x))": (lambda z: z / (1 + torch.exp(-z)), "silu"),
    "autograd.Function": (Swish.apply, "silu"),
    "squared ReLU": (lambda z: F.relu(z) ** 2, "relu2"),
    "squared ReLU by square": (lambda z: torch.square(F.relu(z)), "relu2"),
    "squared ReLU by product": (lambda z: F.relu(z) * F.relu(z), "relu2"),
    "Mish written out": (lambda z: z * torch.tanh(F.softplus(z)), "mish"),
    "softsign written out": (lambda z: z / (1 + z.abs()), "softsign"),
    "softplus written out": (lambda z: torch.log(1 + torch.exp(z)), "softplus"),
    "softplus by log1p": (lambda z: torch.log1p(torch.exp(z)), "softplus"),
    "sigmoid written out": (lambda z: 1 / (1 + torch.exp(-z)), "sigmoid"),
    "log of a sigmoid": (lambda z: torch.log(torch.sigmoid(z)), "logsigmoid"),
    "hardswish by relu6": (lambda z: z * F.relu6(z + 3) / 6, "hardswish"),
    "ELU by where": (lambda z: torch.where(z > 0, z, torch.expm1(z)), "elu"),
}


@pytest.mark.parametrize(
    ("act", "name"), [pytest.param(*row, id=key) for key, row in COMPOSITES.items()]
)
def test_a_formula_is_one_nonlinearity(act, name):
    site = placed(act)
    assert site.activation.name == name
    assert site.pulse == ("exact" if name == "relu2" else "none")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "key", ["NewGELUActivation", "GELU written out", "x * sigmoid(x)", "QuickGELU"]
)
def test_a_formula_in_another_precision(key, dtype):
    act, name = COMPOSITES[key]
    model, x = built(act)
    seen = look(model.to(dtype), x.to(dtype))
    assert seen.described() == {"before": (name, WIDTH)}


def test_a_formula_under_autocast():
    model, x = built(gelu_of_gpt2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = look(model, x)
    assert seen.described() == {"before": ("gelu_tanh", WIDTH)}


def test_a_formula_is_found_again_in_each_exam():
    model, x = built(gelu_of_gpt2)
    seen = look(model, x, steps=3)
    assert seen.vitals["before"].examples == 27
    assert seen.described() == {"before": ("gelu_tanh", WIDTH)}


def test_a_formula_on_numbers_that_cannot_tell_waits_for_others():
    """Near 0 SiLU and half of x are the same; later numbers tell."""
    model, x = built(COMPOSITES["x * sigmoid(x)"][0])
    with torch.no_grad():
        model.before.weight.mul_(1e-5)
        model.before.bias.zero_()
    assert look(model, x).sites == {}
    assert "cannot be told" in look(model, x).unplaced["before (sigmoid mul)"]


def test_a_prelu_with_a_slope_for_each_channel():
    act = nn.PReLU(6)
    with torch.no_grad():
        act.weight.copy_(torch.linspace(-0.5, 0.5, 6))
    model, x = nn.Sequential(nn.Conv1d(7, 6, 2), act, nn.Conv1d(6, 3, 1)), torch.randn(9, 7, 5)
    seen = look(model, x)
    site = seen.only()
    assert (site.name, site.activation.name, site.units) == ("0", "prelu", 6)
    assert (site.feeds, site.reads) == (("0.weight", "0.bias"), ("2.weight",))
    slopes = act.weight.detach()
    unit = Unit("0", lambda z: torch.where(z > 0, z, slopes * z), axis=1)
    check_numbers(seen.vitals["0"], unit, outputs_of(model, x), site.activation.fires)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda z: z.masked_fill_(z < 0, 0.0), id="masked_fill_"),
        pytest.param(lambda z: z.mul_(torch.sigmoid(z)), id="mul_"),
        pytest.param(lambda z: z.view(-1).mul_(torch.sigmoid(z).view(-1)).view(z.shape), id="view"),
        pytest.param(lambda z: (z.view(-1) * torch.sigmoid(z).view(-1)).view(z.shape), id="moved"),
    ],
)
def test_a_formula_whose_pre_activation_is_lost_is_not_watched(act):
    """It is overwritten, or met again in another shape: no gated unit, for sure."""
    model, x = built(act)
    seen = look(model, x)
    assert seen.sites == {}
    (name,) = seen.unplaced
    assert name.startswith("before (")


class Twice(nn.Module):
    """Units, and their squares in an auxiliary loss."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(7, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.before(x))
        return self.after(h), (h * h).mean()


def test_a_penalty_on_activations_takes_nothing_away():
    """The squares are a formula of the same units, but what the next layer reads is the ReLU."""
    seen = look(Twice(), torch.randn(9, 7))
    assert seen.described() == {"before": ("relu", WIDTH)}
    assert seen.reads() == {"before": ["after.weight"]}


def test_rrelu_draws_its_slopes_in_training_and_has_one_in_evaluation():
    model, x = built(nn.RReLU(0.1, 0.4))
    drawn = look(model, x).only().activation
    assert (drawn.name, drawn.constants, drawn.function) == ("rrelu", (0.1, 0.4), None)
    fixed = look(model, x, train=False).only().activation
    assert (fixed.name, fixed.constants) == ("leaky_relu", (0.25,))
