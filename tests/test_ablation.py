"""Silenced units cost what a model that multiplies them by 0 itself loses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import flatline
from flatline.errors import UnsupportedError
from flatline.sense.ablation import Silencer


class Masked(nn.Module):
    """Silences units of one layer by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.keep: Tensor | float = 1.0


class Plain(Masked):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x)) * self.keep)


class InPlaceImages(Masked):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 16, 3), nn.Linear(16 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x.view(-1, 2, 4, 4)), inplace=True)
        keep = self.keep if isinstance(self.keep, float) else self.keep[:, None, None]
        return self.last((h * keep).flatten(1))


class Gated(Masked):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.other, self.last = nn.Linear(6, 16), nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.silu(self.first(x)) * self.other(x) * self.keep)


class WrittenOut(Masked):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        h = 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        return self.last(h * self.keep)


def batches(width: int) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(32, width, generator=draw), torch.randint(3, (32,), generator=draw))
        for _ in range(3)
    ]


@pytest.mark.parametrize(
    ("build", "width"), [(Plain, 6), (InPlaceImages, 32), (Gated, 6), (WrittenOut, 6)]
)
def test_the_loss_grows_as_without_those_units(build, width):
    torch.manual_seed(0)
    model, data = build(), batches(width)
    with torch.no_grad():
        model.first.bias[:4] = -50.0  # silent: none of them is taken
        (report_site,) = flatline.examine(model, data, F.cross_entropy, ablation=True).sites
        silent = model.first.bias <= -50.0
        if build in (Gated, WrittenOut):
            silent &= torch.tensor(report_site.states.get("dead", 0) > 0)
        live = np.flatnonzero(~silent.numpy())

        def loss() -> float:
            return float(np.mean([F.cross_entropy(model(x), y).item() for x, y in data]))

        whole = loss()
        order = np.random.default_rng(0).permutation(live)
        for share, found in ((0.25, "ablated_quarter"), (0.5, "ablated_half")):
            model.keep = torch.ones(16)
            model.keep[torch.from_numpy(order[: round(share * len(order))])] = 0
            assert getattr(report_site.impact, found) == pytest.approx(loss() - whole, abs=1e-6)
            model.keep = 1.0


def test_ablation_changes_nothing_and_is_not_done_unasked():
    torch.manual_seed(0)
    model, data = Plain(), batches(6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    flatline.examine(model, data, F.cross_entropy, ablation=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    (site,) = flatline.examine(model, data, F.cross_entropy).sites
    assert site.impact.ablated_half is None


def test_a_fault_while_units_are_silenced_is_no_loss_of_nothing(monkeypatch):
    def fail(silencer: Silencer, token: object, h: Tensor) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(Silencer, "after", fail)
    batch = torch.randn(8, 6), torch.zeros(8, dtype=torch.long)
    with pytest.raises(UnsupportedError, match="found a fault inside flatline"):
        flatline.examine(Plain(), [batch], F.cross_entropy, ablation=True)


def test_ablation_without_a_loss_or_with_a_used_up_iterator_says_what_to_do():
    with pytest.raises(flatline.FlatlineError, match="expected a loss to ablate units by"):
        flatline.examine(Plain(), batches(6), ablation=True)
    with pytest.raises(flatline.FlatlineError, match="give a list or a DataLoader"):
        flatline.examine(Plain(), iter(batches(6)), F.cross_entropy, ablation=True)
