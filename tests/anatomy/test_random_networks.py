"""Random small networks whose builder knows the truth: anatomy finds exactly that.

A network is a chain of blocks. Each block takes units on the last dimension or, as an image, on the
second; it makes new ones with a layer, may normalise them, bends them in some form, and may move
them. The builder writes down what each block is, and the test compares everything with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from looking import Unit, check_numbers, look, outputs_of

Act = Callable[[Tensor], Tensor]

FORMS: dict[str, tuple[str, Act]] = {
    "nn.ReLU": ("relu", nn.ReLU()),
    "nn.ReLU in place": ("relu", nn.ReLU(inplace=True)),
    "x.relu()": ("relu", lambda z: z.relu()),
    "clamp": ("relu", lambda z: z.clamp(min=0)),
    "maximum": ("relu", lambda z: torch.maximum(z, torch.zeros(()))),
    "nn.LeakyReLU": ("leaky_relu", nn.LeakyReLU(0.1)),
    "nn.GELU": ("gelu", nn.GELU()),
    "nn.SiLU": ("silu", nn.SiLU()),
    "x * sigmoid(x)": ("silu", lambda z: z * torch.sigmoid(z)),
    "nn.Tanh": ("tanh", nn.Tanh()),
    "nn.Sigmoid": ("sigmoid", nn.Sigmoid()),
    "F.hardtanh": ("hardtanh", F.hardtanh),
    "softsign": ("softsign", lambda z: z / (1 + z.abs())),
    "nn.ELU in place": ("elu", nn.ELU(inplace=True)),
}


@dataclass
class Truth:
    """What the builder knows of one block."""

    name: str
    activation: str
    units: int
    feeds: tuple[str, ...]
    act: Act
    reads: list[str] = field(default_factory=list)
    image: bool = False
    gated: bool = False
    residual: bool = False


@dataclass(frozen=True)
class Plan:
    """The choices of one block."""

    width: int
    form: str
    bias: bool
    norm: str
    move: str
    gated: bool
    residual: bool


#: A layer norm over two units gives -1 and 1 alone, on which formulas cannot be told apart.
plans = st.builds(
    Plan,
    width=st.integers(1, 6).map(lambda n: 2 * n),
    form=st.sampled_from([*FORMS]),
    bias=st.booleans(),
    norm=st.sampled_from(["", "", "batch", "layer", "group"]),
    move=st.sampled_from(["", "", "dropout", "pool", "flatten"]),
    gated=st.booleans(),
    residual=st.booleans(),
).filter(lambda plan: plan.norm != "layer" or plan.width > 2)


class Random(nn.Module):
    """A chain of blocks, run as planned, with the truth beside it."""

    def __init__(self, choices: list[Plan], image: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.truths: list[Truth] = []
        self.runs: list[Callable[[Tensor], Tensor]] = []
        #: Forms, each with what it was last given.
        self.given: list[tuple[str, Tensor]] = []
        self.image, self.width, self.side = image, 4, 8
        for choice in choices:
            self._add(choice)
        self.head = self._layer(self.width, 3, True)
        self._read("head.weight")

    def _layer(self, width: int, out: int, bias: bool) -> nn.Module:
        if self.image:
            return nn.Conv2d(width, out, 1, bias=bias)
        return nn.Linear(width, out, bias=bias)

    def _read(self, *names: str) -> None:
        for truth in self.waiting:
            truth.reads.extend(name for name in names if name not in truth.reads)

    waiting: tuple[Truth, ...] = ()

    def _add(self, choice: Plan) -> None:
        index, block = len(self.blocks), nn.ModuleDict()
        self.blocks.append(block)
        prefix = f"blocks.{index}."
        block["a"] = self._layer(self.width, choice.width, choice.bias)
        self._read(f"{prefix}a.weight")
        feeds = [f"{prefix}a.{key}" for key, _ in block["a"].named_parameters()]
        name, norm = f"{prefix}a", self._norm(choice)
        if norm is not None:
            block["norm"] = norm
            name = f"{prefix}norm"
            feeds += [f"{prefix}norm.{key}" for key, _ in norm.named_parameters()]
        residual = choice.residual and choice.width == self.width
        gated = choice.gated and FORMS[choice.form][0] in ("relu", "gelu", "silu") and not residual
        if gated:
            block["value"] = self._layer(self.width, choice.width, False)
            self._read(f"{prefix}value.weight")
            feeds.append(f"{prefix}value.weight")
        activation, act = FORMS[choice.form]
        truth = Truth(name, activation, choice.width, tuple(feeds), act)
        truth.image, truth.gated, truth.residual = self.image, gated, residual
        self.truths.append(truth)
        # A sum that is bent ends the reading of what came along.
        self.waiting, self.width = (truth,), choice.width
        self.runs.append(self._run(block, choice.form, gated, residual, self._move(choice)))

    def _norm(self, choice: Plan) -> nn.Module | None:
        if choice.norm == "batch" and self.image:
            return nn.BatchNorm2d(choice.width)
        if choice.norm == "layer" and not self.image:
            return nn.LayerNorm(choice.width)
        if choice.norm == "group" and self.image:
            return nn.GroupNorm(2, choice.width)
        return None

    def _move(self, choice: Plan) -> Act:
        if choice.move == "dropout":
            return lambda h: F.dropout(h, 0.2)
        if choice.move == "pool" and self.image and self.side >= 2:
            self.side //= 2
            return lambda h: F.max_pool2d(h, 2)
        if choice.move == "flatten" and self.image:
            self.image = False
            return lambda h: h.flatten(2).transpose(1, 2)
        return lambda h: h

    def _run(self, block: nn.ModuleDict, form: str, gated: bool, residual: bool, move: Act) -> Act:
        def run(x: Tensor) -> Tensor:
            z = block["a"](x)
            if "norm" in block:
                z = block["norm"](z)
            z = z + x if residual else z
            self.given.append((form, z))
            h = FORMS[form][1](z)
            return move(h * block["value"](x) if gated else h)

        return run

    def forward(self, x: Tensor) -> Tensor:
        self.given.clear()
        for run in self.runs:
            x = run(x)
        return self.head(x)


@pytest.mark.parametrize("image", [False, True], ids=["features", "images"])
@given(choices=st.lists(plans, min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anatomy_finds_exactly_what_was_built(image, choices, seed):
    torch.manual_seed(seed)
    model = Random(choices, image)
    x = torch.randn(6, 4, 8, 8) if image else torch.randn(6, 5, 4)
    with torch.no_grad():
        # A formula on nothing but zeros, behind units that were born dead, cannot be told apart.
        assume(bool(model(x).flatten(1).std(dim=0).max() > 0))
        # Nor can a maximum with 0 where no number is below it.
        assume(all(bool(z.min() < 0) for form, z in model.given if form == "maximum"))
    state = torch.get_rng_state()
    seen = look(model, x)
    assert seen.unplaced == {}
    assert seen.described() == {t.name: (t.activation, t.units) for t in model.truths}
    assert seen.reads() == {t.name: t.reads for t in model.truths}
    for truth in model.truths:
        assert {*seen.sites[truth.name].feeds} >= {*truth.feeds}
        assert truth.residual or {*seen.sites[truth.name].feeds} == {*truth.feeds}
    torch.set_rng_state(state)
    outputs = outputs_of(model, x)
    for truth in model.truths:
        if not truth.residual:
            value = f"{truth.name.rpartition('.')[0]}.value" if truth.gated else None
            unit = Unit(truth.name, inplace(truth.act), 1 if truth.image else -1, times=value)
            site = seen.sites[truth.name]
            check_numbers(seen.vitals[truth.name], unit, outputs, site.activation.fires)


def inplace(act: Act) -> Act:
    """The same on a copy."""
    return lambda z: act(z.clone())
