"""Parameters that are computed from others, or used without a module."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from looking import Net, Unit, check_numbers, look, outputs_of

Linear, relu = nn.Linear, torch.relu


def weights(*names: str, bias: bool = True) -> tuple[str, ...]:
    return tuple(f"{n}.{key}" for n in names for key in ("weight", "bias")[: 1 + bias])


def old_style(function):
    def wrap(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return function(layer)

    return wrap


class Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).transpose(-1, -2)


class Masked(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.register_buffer("mask", (torch.rand(shape) > 0.3).float())

    def forward(self, w):
        return w * self.mask


def parametrized(part):
    def wrap(layer):
        made = part(layer.weight.shape) if part is Masked else part()
        parametrize.register_parametrization(layer, "weight", made)
        return layer

    return wrap


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.3)
    return layer


V, G = ("parametrizations.weight.original1", "parametrizations.weight.original0")
ORIGINAL = "parametrizations.weight.original"
COMPUTED = {
    "weight_norm": (parametrizations.weight_norm, (V, G), "sampled"),
    "weight_norm over all": (lambda m: parametrizations.weight_norm(m, dim=None), (V, G), "none"),
    "weight_norm, old": (old_style(nn.utils.weight_norm), ("weight_v", "weight_g"), "sampled"),
    "spectral_norm": (parametrizations.spectral_norm, (ORIGINAL,), "none"),
    "spectral_norm, old": (old_style(nn.utils.spectral_norm), ("weight_orig",), "none"),
    "orthogonal": (parametrizations.orthogonal, (ORIGINAL,), "none"),
    "symmetric": (parametrized(Symmetric), (ORIGINAL,), "none"),
    "masked": (parametrized(Masked), (ORIGINAL,), "sampled"),
    "pruned": (pruned, ("weight_orig",), "sampled"),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("key", "layer"),
    [
        *(pytest.param(key, Linear, id=f"{key}, Linear") for key in COMPUTED),
        *(
            pytest.param(key, nn.Conv1d, id=f"{key}, Conv1d")
            for key in COMPUTED
            if key not in ("symmetric", "orthogonal")  # made for matrices
        ),
    ],
)
def test_a_weight_that_is_computed(key, bias, layer):
    """The pulse is read from a weight only if each of its rows speaks of one unit."""
    wrap, names, pulse = COMPUTED[key]
    size = () if layer is Linear else (1,)
    model = nn.Sequential(
        wrap(layer(6, 6, *size, bias=bias)),
        nn.ReLU(),
        wrap(layer(6, 2, *size) if key != "symmetric" else layer(6, 6)),
    )
    x = torch.randn(9, 6) if layer is Linear else torch.randn(9, 6, 4)
    seen = look(model, x, train=False)  # in training, a spectral norm moves from call to call
    site = seen.only()
    assert (site.name, site.units) == ("0", 6)
    assert {*site.feeds} == {f"0.{n}" for n in names} | ({"0.bias"} if bias else set())
    assert {*site.reads} == {f"2.{n}" for n in names}
    assert site.pulse == ("exact" if bias else pulse)
    axis = -1 if layer is Linear else 1
    check_numbers(
        seen.vitals["0"], Unit("0", axis=axis), outputs_of(model, x), site.activation.fires
    )


def test_a_noisy_layer_of_reinforcement_learning():
    def run(m, x):
        weight = m.mu + m.sigma * torch.randn(6, 5)
        return m.head(relu(F.linear(x, weight, m.bias)))

    model = Net(
        run,
        mu=nn.Parameter(torch.randn(6, 5)),
        sigma=nn.Parameter(torch.rand(6, 5)),
        bias=nn.Parameter(torch.zeros(6)),
        head=Linear(6, 2),
    )
    site = look(model, torch.randn(9, 5)).only()
    assert (site.name, site.feeds) == ("mu", ("mu", "sigma", "bias"))


def test_a_low_rank_adapter_tells_the_pulse_of_a_frozen_layer():
    def run(m, x):
        return m.head(relu(m.frozen(x) + 0.5 * m.up(m.down(x))))

    model = Net(
        run,
        frozen=Linear(5, 6).requires_grad_(False),
        down=Linear(5, 2, bias=False),
        up=Linear(2, 6, bias=False),
        head=Linear(6, 2),
    )
    site = look(model, torch.randn(9, 5)).only()
    assert (site.name, site.feeds) == ("frozen", (*weights("frozen"), "up.weight"))
    assert site.pulse == "sampled"


def test_a_frozen_layer_has_no_pulse():
    model = nn.Sequential(Linear(5, 6).requires_grad_(False), nn.ReLU(), Linear(6, 2))
    assert look(model, torch.randn(9, 5)).only().pulse == "none"


def test_a_weight_made_by_a_network_is_data():
    def run(m, x):
        return m.head(relu(F.linear(x, m.make(m.code).view(6, 5))))

    model = Net(run, make=Linear(3, 30), code=nn.Parameter(torch.randn(3)), head=Linear(6, 2))
    seen = look(model, torch.randn(9, 5))
    assert seen.sites == {}
    assert [*seen.unplaced] == ["Net (relu)"]


def linear(m, x):
    return F.linear(relu(F.linear(x, m.w.t(), m.bias)), m.v.t())


def matmul(m, x):
    return relu(x @ m.w + m.bias) @ m.v


def einsum(m, x):
    h = relu(torch.einsum("...i,io->...o", x, m.w) + m.bias)
    return torch.einsum("...i,io->...o", h, m.v)


def addmm(m, x):
    return relu(torch.addmm(m.bias, x.flatten(0, -2), m.w)) @ m.v


@pytest.mark.parametrize("shape", [(9, 5), (9, 4, 5)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("run", [linear, matmul, einsum, addmm])
def test_raw_parameters(run, shape):
    sizes = {"w": (5, 6), "bias": (6,), "v": (6, 2)}
    held = {name: nn.Parameter(torch.randn(size)) for name, size in sizes.items()}
    seen = look(Net(run, **held), torch.randn(shape))
    site = seen.only()
    assert (site.name, site.units, site.pulse) == ("w", 6, "exact")
    assert (site.feeds, site.reads) == (("w", "bias"), ("v",))


@pytest.mark.parametrize("kind", [nn.ParameterList, nn.ParameterDict], ids=lambda k: k.__name__)
def test_parameters_in_a_collection(kind):
    shapes = {"w": (6, 5), "b": (6,), "v": (2, 6)}
    made = {key: torch.randn(shape) for key, shape in shapes.items()}
    held = kind(made) if kind is nn.ParameterDict else kind(made.values())
    w, b, v = ("w", "b", "v") if kind is nn.ParameterDict else (0, 1, 2)
    model = Net(lambda m, x: F.linear(relu(F.linear(x, m.p[w], m.p[b])), m.p[v]), p=held)
    site = look(model, torch.randn(9, 5)).only()
    assert (site.name, site.feeds, site.reads) == (f"p.{w}", (f"p.{w}", f"p.{b}"), (f"p.{v}",))


def test_units_on_rows():
    model = Net(
        lambda m, x: m.v @ relu(m.w @ x + m.bias),
        w=nn.Parameter(torch.randn(6, 5)),
        bias=nn.Parameter(torch.randn(6, 1)),
        v=nn.Parameter(torch.randn(2, 6)),
    )
    site = look(model, torch.randn(5, 4)).only()
    assert (site.name, site.units, site.reads) == ("w", 6, ("v",))


def test_heads_of_an_einsum_are_units_side_by_side():
    model = Net(
        lambda m, x: torch.einsum(
            "bthd,hdc->btc", relu(torch.einsum("bti,ihd->bthd", x, m.w)), m.v
        ),
        w=nn.Parameter(torch.randn(5, 2, 3)),
        v=nn.Parameter(torch.randn(2, 3, 2)),
    )
    site = look(model, torch.randn(4, 3, 5)).only()
    assert (site.name, site.units, site.reads) == ("w", 6, ("v",))


def test_a_bilinear_layer_is_fed_and_reads():
    model = Net(
        lambda m, x: m.c(relu(m.a(x, x)), relu(m.b(x))),
        a=nn.Bilinear(5, 5, 6),
        b=Linear(5, 4),
        c=nn.Bilinear(6, 4, 2),
    )
    x = torch.randn(9, 5)
    seen = look(model, x)
    assert seen.described() == {"a": ("relu", 6), "b": ("relu", 4)}
    assert seen.sites["a"].feeds == weights("a")
    assert seen.reads() == {"a": ["c.weight"], "b": ["c.weight"]}
    check_numbers(
        seen.vitals["a"], Unit("a"), outputs_of(model, x), seen.sites["a"].activation.fires
    )
