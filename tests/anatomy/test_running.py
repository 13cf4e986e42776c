"""Ways to run a part of a model: checkpointing, precision, dropout, masks, transforms."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from looking import Net, Unit, check_numbers, look, outputs_of

Linear, relu = nn.Linear, torch.relu


def weights(*names: str, bias: bool = True) -> tuple[str, ...]:
    return tuple(f"{n}.{key}" for n in names for key in ("weight", "bias")[: 1 + bias])


@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_a_checkpointed_block_is_read_once(reentrant):
    def run(m, x):
        return m.c(checkpoint(m.b, relu(m.a(x)), use_reentrant=reentrant))

    model = Net(
        run, a=Linear(5, 6), b=nn.Sequential(Linear(6, 7), nn.ReLU(), Linear(7, 6)), c=Linear(6, 2)
    )
    x = torch.randn(9, 5)
    seen = look(model, x)
    assert seen.reads() == {"a": ["b.0.weight"], "b.0": ["b.2.weight"]}
    check_numbers(
        seen.vitals["b.0"], Unit("b.0"), outputs_of(model, x), seen.sites["b.0"].activation.fires
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_another_precision(dtype):
    model, x = (
        nn.Sequential(Linear(5, 6), nn.ReLU(), Linear(6, 2)).to(dtype),
        torch.randn(9, 5).to(dtype),
    )
    seen = look(model, x)
    assert seen.described() == {"0": ("relu", 6)}
    assert seen.only().pulse == "exact"


def test_autocast_follows_copies_of_weights():
    model = nn.Sequential(Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), Linear(6, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        site = look(model, torch.randn(9, 5)).only()
    assert (site.name, site.feeds, site.reads) == ("1", weights("0", "1"), ("3.weight",))
    assert site.pulse == "exact"


DROPOUTS = {
    "Dropout": nn.Dropout(0.5),
    "in place": nn.Dropout(0.5, inplace=True),
    "AlphaDropout": nn.AlphaDropout(0.5),
    "FeatureAlphaDropout": nn.FeatureAlphaDropout(0.5),
    "by hand": Net(lambda m, h: h * (torch.rand_like(h) > 0.5) / 0.5),
    "of whole examples": Net(lambda m, h: h * torch.empty(len(h), 1).bernoulli_(0.5)),
}


@pytest.mark.parametrize("key", DROPOUTS)
def test_dropout_after_the_activation_makes_the_pulse_noisy(key):
    model = nn.Sequential(Linear(5, 6), nn.GELU(), DROPOUTS[key], Linear(6, 2))
    seen = look(model, torch.randn(9, 5))
    assert seen.reads() == {"0": ["3.weight"]}
    assert seen.noisy == {"0"}
    assert seen.unplaced == {}


def test_dropout_before_the_activation_takes_the_pulse():
    model = nn.Sequential(Linear(5, 6), nn.Dropout(0.5), nn.ReLU(), Linear(6, 2))
    assert look(model, torch.randn(9, 5)).only().pulse == "none"


def test_a_mask_of_padding_keeps_units_and_their_reader():
    mask = (torch.rand(9, 4, 1) > 0.3).float()
    model = Net(
        lambda m, x: m.b(relu(m.a(x)) * mask.expand(-1, -1, 6)), a=Linear(5, 6), b=Linear(6, 2)
    )
    seen = look(model, torch.randn(9, 4, 5))
    assert seen.reads() == {"a": ["b.weight"]}
    assert seen.noisy == {"a"}


def test_fake_quantisation_rounds_and_leaves_the_units():
    quantise = Net(lambda m, z: torch.fake_quantize_per_tensor_affine(z, 0.1, 0, -127, 127))
    model = nn.Sequential(Linear(5, 6), quantise, nn.ReLU(), quantise, Linear(6, 2))
    site = look(model, torch.randn(9, 5)).only()
    assert (site.name, site.reads, site.pulse) == ("0", ("4.weight",), "none")


def test_quantisation_stubs_are_transparent():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.ao import quantization as q

        model = nn.Sequential(q.QuantStub(), Linear(5, 6), nn.ReLU(), Linear(6, 2), q.DeQuantStub())
    assert look(model, torch.randn(9, 5)).reads() == {"1": ["3.weight"]}


def test_a_functional_call():
    net = nn.Sequential(Linear(5, 6), nn.ReLU(), Linear(6, 2))

    def run(m, x):
        return torch.func.functional_call(m.net, dict(m.net.named_parameters()), (x,))

    assert look(Net(run, net=net), torch.randn(9, 5)).reads() == {"net.0": ["net.2.weight"]}
