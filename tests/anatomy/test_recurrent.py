"""Recurrent modules, cells and hand-written ones: the units are the outputs, not the gates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from looking import Net, Unit, check_numbers, look, outputs_of

Linear, relu = nn.Linear, torch.relu


def weights(*names: str, bias: bool = True) -> tuple[str, ...]:
    return tuple(f"{n}.{key}" for n in names for key in ("weight", "bias")[: 1 + bias])


RECURRENT = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}


@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_module(kind, batch_first):
    cell = getattr(nn, kind)(5, 4, batch_first=batch_first)
    model = Net(lambda m, x: m.head(m.cell(x)[0]), cell=cell, head=Linear(4, 2))
    x = torch.randn(3, 6, 5)
    seen = look(model, x)
    site = seen.only()
    assert (site.name, site.activation.name, site.units) == ("cell", RECURRENT[kind], 4)
    keys = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    assert site.feeds == tuple(f"cell.{key}" for key in keys)
    assert (site.reads, site.pulse) == (("head.weight",), "none")
    if batch_first:  # else nothing tells the model's input which of its dimensions is time
        outputs = outputs_of(model, x)
        unit = Unit("cell", lambda h: h)
        check_numbers(seen.vitals["cell"], unit, outputs, site.activation.fires)


def test_a_recurrent_module_with_relu():
    model = Net(
        lambda m, x: m.head(m.cell(x)[0]), cell=nn.RNN(5, 4, nonlinearity="relu"), head=Linear(4, 2)
    )
    assert look(model, torch.randn(3, 6, 5)).described() == {"cell": ("rnn_relu", 4)}


@pytest.mark.parametrize("kind", RECURRENT)
def test_layers_inside_a_recurrent_module_are_named_as_not_watched(kind):
    cell = getattr(nn, kind)(5, 4, num_layers=3, bidirectional=True)
    seen = look(
        Net(lambda m, x: m.head(m.cell(x)[0]), cell=cell, head=Linear(8, 2)), torch.randn(3, 6, 5)
    )
    assert seen.described() == {"cell": (RECURRENT[kind], 8)}
    assert len(seen.only().feeds) == 8
    assert [*seen.unplaced] == ["cell.l0", "cell.l1"]


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_cell_unrolled_in_python(kind):
    def run(m, x):
        state = None
        for t in range(x.shape[1]):
            state = m.cell(relu(m.a(x[:, t])), state)
        return m.head(state[0] if isinstance(state, tuple) else state)

    model = Net(run, a=Linear(7, 5), cell=getattr(nn, kind + "Cell")(5, 4), head=Linear(4, 2))
    seen = look(model, torch.randn(3, 6, 7))
    assert seen.described() == {"a": ("relu", 5), "cell": (RECURRENT[kind], 4)}
    assert seen.reads() == {"a": ["cell.weight_ih"], "cell": ["cell.weight_hh", "head.weight"]}
    assert seen.vitals["cell"].examples == 3
    assert seen.unplaced == {}


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(lambda out, states: states[0][-1], id="last state"),
        pytest.param(lambda out, states: states[0].squeeze(0), id="squeezed state"),
        pytest.param(lambda out, states: out[:, -1], id="last output"),
        pytest.param(lambda out, states: out.mean(1), id="mean"),
    ],
)
def test_a_head_on_the_last_state_reads_the_cell(last):
    model = Net(
        lambda m, x: m.head(last(*m.cell(x))),
        cell=nn.LSTM(5, 4, batch_first=True),
        head=Linear(4, 2),
    )
    assert look(model, torch.randn(3, 6, 5)).reads() == {"cell": ["head.weight"]}


def test_stacked_and_packed_recurrent_modules():
    def run(m, x):
        packed = nn.utils.rnn.pack_padded_sequence(relu(m.a(x)), [6, 4, 3], batch_first=True)
        packed, _ = m.first(packed)
        packed, _ = m.second(packed)
        return m.head(nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0])

    model = Net(
        run,
        a=Linear(7, 5),
        first=nn.LSTM(5, 4, batch_first=True),
        second=nn.GRU(4, 3, batch_first=True),
        head=Linear(3, 2),
    )
    assert look(model, torch.randn(3, 6, 7)).reads() == {
        "a": ["first.weight_ih_l0"],
        "first": ["second.weight_ih_l0"],
        "second": ["head.weight"],
    }


def test_a_state_that_a_layer_made_is_read_by_recurrent_weights():
    model = Net(
        lambda m, x: m.head(m.cell(x, torch.tanh(m.a(x[0]))[None])[0]),
        a=Linear(5, 4),
        cell=nn.GRU(5, 4),
        head=Linear(4, 2),
    )
    assert look(model, torch.randn(6, 3, 5)).reads()["a"] == ["cell.weight_hh_l0"]


def simple_rnn(m, x):
    h = x.new_zeros(3, 4)
    for t in range(x.shape[1]):
        h = torch.tanh(m.x(x[:, t]) + m.h(h))
    return m.head(h)


def test_a_hand_written_recurrent_network():
    model = Net(simple_rnn, x=Linear(5, 4), h=Linear(4, 4, bias=False), head=Linear(4, 2))
    x = torch.randn(3, 6, 5)
    seen = look(model, x)
    assert seen.described() == {"x": ("tanh", 4)}
    assert {*seen.only().feeds} == {"x.weight", "x.bias", "h.weight"}
    assert seen.reads() == {"x": ["h.weight", "head.weight"]}
    outputs = outputs_of(model, x)
    outputs["z"] = outputs["x"] + outputs["h"]
    check_numbers(seen.vitals["x"], Unit("z", torch.tanh), outputs, seen.only().activation.fires)


def lstm_by_hand(m, x):
    h = c = x.new_zeros(3, 4)
    for t in range(x.shape[1]):
        i, f, g, o = (m.x(x[:, t]) + m.h(h)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    return m.head(h)


def gru_by_hand(m, x):
    h = x.new_zeros(3, 4)
    for t in range(x.shape[1]):
        xr, xz, xn = m.x(x[:, t]).chunk(3, -1)
        hr, hz, hn = m.h(h).chunk(3, -1)
        r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
        n = torch.tanh(xn + r * hn)
        h = (1 - z) * n + z * h
    return m.head(h)


@pytest.mark.parametrize(
    ("run", "gates"), [(lstm_by_hand, 4), (gru_by_hand, 3)], ids=["lstm", "gru"]
)
def test_the_gates_of_a_hand_written_cell_are_no_sites(run, gates):
    model = Net(run, x=Linear(5, 4 * gates), h=Linear(4, 4 * gates), head=Linear(4, 2))
    seen = look(model, torch.randn(3, 6, 5), steps=2)
    assert seen.described() == {"x": ("tanh", 4)}
    assert seen.reads() == {"x": ["h.weight", "head.weight"]}
    assert "gate" in seen.unplaced["x (sigmoid)"]
