"""Attention and transformers: the units are in the feed-forward blocks."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from looking import Net, look

Linear, relu = nn.Linear, torch.relu


def weights(*names: str, bias: bool = True) -> tuple[str, ...]:
    return tuple(f"{n}.{key}" for n in names for key in ("weight", "bias")[: 1 + bias])


STREAM = torch.randn(3, 5, 8)


def own_attention(m, x):
    q, k, v = m.qkv(x).chunk(3, -1)
    scores = (q @ k.transpose(-1, -2) / 3).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    x = x + m.out(scores.softmax(-1) @ v)
    return x + m.b(F.gelu(m.a(x)))


def heads_attention(m, x):
    q, k, v = (t.view(3, 5, 2, 4).transpose(1, 2) for t in m.qkv(x).split(8, -1))
    h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + m.out(h.transpose(1, 2).reshape(3, 5, 8))
    return x + m.b(F.gelu(m.a(x)))


@pytest.mark.parametrize("run", [own_attention, heads_attention], ids=["own", "sdpa"])
def test_attention_has_no_units(run):
    model = Net(run, qkv=Linear(8, 24), out=Linear(8, 8), a=Linear(8, 12), b=Linear(12, 8))
    seen = look(model, STREAM)
    assert seen.described() == {"a": ("gelu", 12)}
    assert seen.reads() == {"a": ["b.weight"]}
    assert seen.unplaced == {}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
def test_a_transformer_encoder_layer(dropout, norm_first, batch_first):
    layer = nn.TransformerEncoderLayer(
        8, 2, 12, dropout, norm_first=norm_first, batch_first=batch_first
    )
    seen = look(layer, STREAM)
    site = seen.only()
    assert (site.name, site.units, site.pulse) == ("linear1", 12, "exact")
    assert (site.feeds, site.reads) == (weights("linear1"), ("linear2.weight",))
    assert (site.name in seen.noisy) == bool(dropout)
    assert seen.vitals["linear1"].examples == (3 if batch_first else 5)
    assert seen.unplaced == {}


def encoder(**options):
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nn.TransformerEncoder(layer, 2)


def test_a_transformer_encoder_in_evaluation_mode_while_it_is_trained():
    seen = look(encoder(activation="gelu"), STREAM, train=False)
    assert seen.reads() == {f"layers.{i}.linear1": [f"layers.{i}.linear2.weight"] for i in range(2)}


def test_the_fast_path_of_a_frozen_encoder_hides_its_activations():
    model = Net(
        lambda m, x: m.head(m.body(x)), body=encoder().requires_grad_(False), head=Linear(8, 2)
    )
    seen = look(model, STREAM, train=False)
    assert seen.sites == {}
    because = "its layer runs as one fused operator"
    assert seen.unplaced == {f"body.layers.{i} (activation)": because for i in range(2)}


def test_a_frozen_encoder_with_padding_uses_nested_tensors_and_hurts_nobody():
    def run(m, x):
        mask = torch.zeros(3, 5, dtype=torch.bool)
        mask[0, 3:] = True
        return m.b(relu(m.a(m.body(x, src_key_padding_mask=mask))))

    model = Net(run, body=encoder().requires_grad_(False), a=Linear(8, 6), b=Linear(6, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        seen = look(model, STREAM, train=False)
    assert seen.described() == {"a": ("relu", 6)}


def test_a_decoder_layer_and_multi_head_attention():
    layer = nn.TransformerDecoderLayer(8, 2, 12, activation="gelu", batch_first=True)
    model = Net(
        lambda m, x: m.d(m.attend(x, x, x)[0], x),
        attend=nn.MultiheadAttention(8, 2, batch_first=True),
        d=layer,
    )
    seen = look(model, STREAM)
    assert seen.reads() == {"d.linear1": ["d.linear2.weight"]}
    assert seen.unplaced == {}


def test_what_attention_reads():
    model = Net(
        lambda m, x: m.attend(*[relu(m.a(x))] * 3)[0],
        a=Linear(8, 8),
        attend=nn.MultiheadAttention(8, 2, batch_first=True),
    )
    assert look(model, STREAM).reads() == {"a": ["attend.in_proj_weight"]}


def test_a_vision_transformer():
    def run(m, x):
        tokens = m.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([m.cls.expand(len(x), -1, -1), tokens], 1) + m.place
        tokens = tokens + m.b(F.gelu(m.a(m.norm(tokens))))
        return m.head(tokens[:, 0])

    model = Net(
        run,
        patches=nn.Conv2d(3, 8, 4, 4),
        cls=nn.Parameter(torch.zeros(1, 1, 8)),
        place=nn.Parameter(torch.zeros(1, 5, 8)),
        norm=nn.LayerNorm(8),
        a=Linear(8, 12),
        b=Linear(12, 8),
        head=Linear(8, 3),
    )
    seen = look(model, torch.randn(2, 3, 8, 8))
    assert seen.reads() == {"a": ["b.weight"]}
    assert seen.unplaced == {}


def test_a_learned_position_on_the_input_is_data_and_not_a_weight():
    model = Net(
        lambda m, x: m.b(relu(m.a(x * m.scale + m.place))),
        scale=nn.Parameter(torch.ones(5)),
        place=nn.Parameter(torch.zeros(4, 5)),
        a=Linear(5, 6, bias=False),
        b=Linear(6, 2),
    )
    site = look(model, torch.randn(9, 4, 5)).only()
    assert (site.name, site.feeds, site.reads) == ("a", ("a.weight",), ("b.weight",))


def test_learned_queries_go_through_layers_like_data():
    model = Net(
        lambda m, x: m.b(relu(m.a(m.queries))) + m.c(x),
        queries=nn.Parameter(torch.randn(4, 5)),
        a=Linear(5, 6),
        b=Linear(6, 2),
        c=Linear(5, 2),
    )
    assert look(model, torch.randn(9, 4, 5)).reads() == {"a": ["b.weight"]}
