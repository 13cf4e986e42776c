"""Residual blocks, concatenation and shared parts: who feeds and who reads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from looking import Net, Unit, check_numbers, look, outputs_of

Linear, relu = nn.Linear, torch.relu


def weights(*names: str, bias: bool = True) -> tuple[str, ...]:
    return tuple(f"{n}.{key}" for n in names for key in ("weight", "bias")[: 1 + bias])


def test_a_residual_sum_before_the_activation_is_named_after_the_layer_in_it():
    model = Net(
        lambda m, x: m.c(relu(m.b(relu(m.a(x))) + x)),
        a=Linear(5, 6),
        b=Linear(6, 5),
        c=Linear(5, 2),
    )
    x = torch.randn(9, 5)
    seen = look(model, x)
    assert seen.described() == {"a": ("relu", 6), "b": ("relu", 5)}
    assert seen.sites["b"].feeds == weights("b")
    assert seen.reads() == {"a": ["b.weight"], "b": ["c.weight"]}
    outputs = outputs_of(model, x)
    outputs["sum"] = outputs["b"] + x
    check_numbers(seen.vitals["b"], Unit("sum"), outputs, seen.sites["b"].activation.fires)


def test_a_residual_sum_of_two_layers_is_fed_by_both():
    model = Net(
        lambda m, x: m.c(relu(m.a(x) + m.skip(x))),
        a=Linear(5, 6),
        skip=Linear(5, 6),
        c=Linear(6, 2),
    )
    site = look(model, torch.randn(9, 5)).only()
    assert (site.name, site.feeds, site.reads) == ("a", weights("a", "skip"), ("c.weight",))


def test_a_residual_sum_after_the_activation_is_read_with_it():
    model = Net(lambda m, x: m.c(relu(m.a(x)) + x), a=Linear(5, 5), c=Linear(5, 2))
    assert look(model, torch.randn(9, 5)).reads() == {"a": ["c.weight"]}


def test_a_residual_stream_is_read_at_every_stop():
    """What was bent goes along with the sum, to whoever reads it later."""

    def run(m, x):
        h = F.gelu(m.stem(x)) + m.place(torch.arange(4))
        for block in m.blocks:
            h = h + block(h)
        return m.head(h)

    blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(6), Linear(6, 6)) for _ in range(2))
    model = Net(run, stem=Linear(5, 6), place=nn.Embedding(4, 6), blocks=blocks, head=Linear(6, 2))
    seen = look(model, torch.randn(9, 4, 5))
    assert seen.reads() == {"stem": ["blocks.0.0.weight", "blocks.1.0.weight", "head.weight"]}


def test_concatenated_units_are_read_by_who_reads_the_whole():
    def dense(m, x):
        first = relu(m.a(x))
        second = relu(m.b(first))
        return m.c(torch.cat([x, first, second], 1))

    model = Net(dense, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 5, 1), c=nn.Conv2d(12, 2, 1))
    seen = look(model, torch.randn(2, 3, 5, 5))
    assert seen.reads() == {"a": ["b.weight", "c.weight"], "b": ["c.weight"]}


def test_an_activation_on_concatenated_layers_is_not_watched():
    model = Net(lambda m, x: relu(torch.cat([m.a(x), m.b(x)], 1)), a=Linear(5, 6), b=Linear(5, 7))
    seen = look(model, torch.randn(9, 5))
    assert seen.sites == {}
    assert seen.unplaced == {"a (relu)": "its input joins several layers"}


def test_a_normalisation_of_concatenated_layers_has_units_of_its_own():
    def run(m, x):
        return m.c(relu(m.norm(torch.cat([m.a(x), m.b(x)], 1))))

    model = Net(
        run,
        a=nn.Conv1d(3, 4, 1),
        b=nn.Conv1d(3, 5, 1),
        norm=nn.BatchNorm1d(9),
        c=nn.Conv1d(9, 2, 1),
    )
    x = torch.randn(4, 3, 6)
    seen = look(model, x)
    site = seen.only()
    assert (site.name, site.units, site.feeds) == ("norm", 9, weights("norm"))
    check_numbers(
        seen.vitals["norm"], Unit("norm", axis=1), outputs_of(model, x), site.activation.fires
    )


@pytest.mark.parametrize("join", [torch.stack, torch.cat], ids=["stack", "cat"])
def test_calls_of_one_layer_side_by_side_keep_its_units(join):
    model = Net(lambda m, x: m.b(relu(join([m.a(x), m.a(-x)], 1))), a=Linear(5, 6), b=Linear(6, 2))
    seen = look(model, torch.randn(9, 3, 5))
    assert seen.described() == {"a": ("relu", 6)}
    assert seen.reads() == {"a": ["b.weight"]}


def test_a_unet():
    def run(m, x):
        first = relu(m.down1(x))
        second = relu(m.down2(F.max_pool2d(first, 2)))
        return m.out(relu(m.up1(torch.cat([first, m.up(second)], 1))))

    model = Net(
        run,
        down1=nn.Conv2d(3, 4, 3, padding=1),
        down2=nn.Conv2d(4, 6, 3, padding=1),
        up=nn.ConvTranspose2d(6, 4, 2, 2),
        up1=nn.Conv2d(8, 4, 3, padding=1),
        out=nn.Conv2d(4, 1, 1),
    )
    assert look(model, torch.randn(2, 3, 8, 8)).reads() == {
        "down1": ["down2.weight", "up1.weight"],
        "down2": ["up.weight"],
        "up1": ["out.weight"],
    }


def test_a_layer_that_is_called_twice_is_one_site():
    layer = Linear(5, 5)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), Linear(5, 2))
    x = torch.randn(9, 5)
    seen = look(model, x)
    assert seen.reads() == {"0": ["0.weight", "4.weight"]}
    assert seen.vitals["0"].examples == 9
    check_numbers(seen.vitals["0"], Unit("0"), outputs_of(model, x), seen.only().activation.fires)


def test_a_layer_with_two_activations_is_two_sites():
    layer = Linear(5, 5)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.Tanh(), Linear(5, 2))
    seen = look(model, torch.randn(9, 5))
    assert seen.reads() == {"0": ["0.weight"], "0#2": ["4.weight"]}


def test_a_concatenated_relu_is_two_sites():
    model = Net(
        lambda m, x: m.b(torch.cat([relu(m.a(x)), relu(-m.a(x))], 1)),
        a=Linear(5, 6),
        b=Linear(12, 2),
    )
    seen = look(model, torch.randn(9, 5))
    assert seen.described() == {"a": ("relu", 6), "a#2": ("relu", 6)}
    assert (seen.vitals["a"].z_max == -seen.vitals["a#2"].z_min).all()


def test_one_activation_module_may_serve_many_layers():
    act = nn.ReLU()
    model = nn.Sequential(Linear(5, 6), act, Linear(6, 7), act, Linear(7, 2))
    assert look(model, torch.randn(9, 5)).reads() == {"0": ["2.weight"], "2": ["4.weight"]}


def test_tied_weights():
    def run(m, tokens):
        return F.linear(m.b(relu(m.a(m.embed(tokens)))), m.embed.weight)

    model = Net(run, embed=nn.Embedding(11, 5), a=Linear(5, 6), b=Linear(6, 5))
    assert look(model, torch.randint(11, (3, 4))).reads() == {"a": ["b.weight"]}


def test_an_autoencoder_that_decodes_with_its_encoders_weight():
    model = Net(
        lambda m, x: F.linear(relu(m.a(x)), m.a.weight.t(), m.bias),
        a=Linear(5, 6),
        bias=nn.Parameter(torch.zeros(5)),
    )
    assert look(model, torch.randn(9, 5)).reads() == {"a": ["a.weight"]}


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag], ids=lambda k: k.__name__)
def test_an_embedding_feeds(kind):
    model = nn.Sequential(kind(11, 5), nn.ReLU(), Linear(5, 2))
    tokens = torch.randint(11, (3, 4))
    seen = look(model, tokens)
    site = seen.only()
    assert (site.name, site.units, site.feeds) == ("0", 5, ("0.weight",))
    check_numbers(seen.vitals["0"], Unit("0"), outputs_of(model, tokens), site.activation.fires)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_a_graph_convolution_mixes_nodes_and_not_units(sparse):
    adjacency = torch.rand(7, 7).round()
    adjacency = adjacency.to_sparse() if sparse else adjacency

    def run(m, x):
        return m.b(m.graph @ relu(m.graph @ m.a(x)))

    model = Net(run, a=Linear(3, 6), b=Linear(6, 2), graph=nn.Buffer(adjacency))
    seen = look(model, torch.randn(7, 3))
    assert seen.described() == {"a": ("relu", 6)}
    assert seen.reads() == {"a": ["b.weight"]}


def test_messages_that_are_gathered_and_scattered():
    source, target = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2, 0, 1])

    def run(m, x):
        messages = relu(m.a(x))[source]
        return m.b(torch.zeros(3, 6).index_add(0, target, messages))

    model = Net(run, a=Linear(5, 6), b=Linear(6, 2))
    assert look(model, torch.randn(3, 5)).reads() == {"a": ["b.weight"]}
