"""Mixtures of experts: every expert is a layer, and one without examples is unvisited."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from looking import Net, look

Linear, relu = nn.Linear, torch.relu


def experts_model(run, bias=(0.0, -100.0, 0.0)):
    model = Net(
        run,
        route=Linear(5, 3),
        up=nn.ModuleList(Linear(5, 6) for _ in range(3)),
        down=nn.ModuleList(Linear(6, 2) for _ in range(3)),
    )
    with torch.no_grad():
        model.route.bias.copy_(torch.tensor(bias))
    return model


def by_index(m, x):
    shares = m.route(x).softmax(-1)
    chosen, out = shares.argmax(-1), torch.zeros(len(x), 2)
    for e in range(3):
        rows = (chosen == e).nonzero().flatten()
        out = out.index_add(0, rows, m.down[e](relu(m.up[e](x[rows]))) * shares[rows, e : e + 1])
    return out


def by_mask(m, x):
    shares = m.route(x).softmax(-1)
    chosen, out = shares.argmax(-1), torch.zeros(len(x), 2)
    for e in range(3):
        rows = chosen == e
        out[rows] = m.down[e](relu(m.up[e](x[rows])))
    return out + 0 * shares.sum()


def everyone(m, x):
    shares = m.route(x).softmax(-1)
    outs = torch.stack([m.down[e](relu(m.up[e](x))) for e in range(3)], 1)
    return (shares[..., None] * outs).sum(1)


@pytest.mark.parametrize("run", [by_index, by_mask, everyone])
def test_experts_are_sites_and_one_that_is_never_routed_to_has_no_example(run):
    torch.manual_seed(1)
    seen = look(experts_model(run), torch.randn(40, 5))
    assert seen.described() == {f"up.{e}": ("relu", 6) for e in range(3)}
    assert seen.reads() == {f"up.{e}": [f"down.{e}.weight"] for e in range(3)}
    examples = [seen.vitals[f"up.{e}"].examples for e in range(3)]
    if run is everyone:
        assert examples == [40, 40, 40]
    else:
        assert sum(examples) == 40
        assert examples[1] == 0
    assert [*seen.unplaced] == ["route (softmax)"]


def test_an_expert_that_is_passed_over_is_named():
    def run(m, x):
        chosen = m.route(x).argmax(-1)
        outs = [m.down[e](relu(m.up[e](x[chosen == e]))) for e in range(3) if (chosen == e).any()]
        return torch.cat(outs)

    torch.manual_seed(1)
    seen = look(experts_model(run), torch.randn(40, 5))
    assert [*seen.sites] == ["up.0", "up.2"]
    because = "it did not run in an examined step"
    assert seen.unplaced == {"up.1": because, "down.1": because}


def test_stacked_experts_in_one_product_are_sites_of_their_own():
    def run(m, x):
        return torch.bmm(relu(torch.bmm(x, m.up)), m.down)

    torch.manual_seed(1)
    model = Net(run, up=nn.Parameter(torch.randn(3, 5, 6)), down=nn.Parameter(torch.randn(3, 6, 2)))
    with torch.no_grad():
        model.down[2, 4] = 0
    x = torch.randn(3, 8, 5)
    seen = look(model, x)
    assert seen.described() == dict.fromkeys(("up", "up#2", "up#3"), ("relu", 6))
    assert all(site.reads == ("down",) for site in seen.sites.values())
    for e, name in enumerate(seen.sites):
        z = torch.bmm(x, model.up)[e].detach()
        assert torch.allclose(torch.from_numpy(seen.vitals[name].z_max), z.amax(0))
        assert seen.vitals[name].ignored.nonzero()[0].tolist() == ([4] if e == 2 else [])


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "SwiGLU"])
def test_experts_in_a_grouped_product_are_sites_of_their_own(gated):
    ends = torch.tensor([3, 3, 8, 9], dtype=torch.int32)  # nothing for the second expert

    def run(m, x):
        z = F.grouped_mm(x, m.up, offs=ends)
        if gated:
            gate, value = z.chunk(2, -1)
            h = F.silu(gate) * value
        else:
            h = F.silu(z)
        return F.grouped_mm(h, m.down, offs=ends)

    torch.manual_seed(1)
    width = 16 if gated else 8
    model = Net(
        run, up=nn.Parameter(torch.randn(4, 8, width)), down=nn.Parameter(torch.randn(4, 8, 8))
    )
    model, x = model.bfloat16(), torch.randn(9, 8).bfloat16()
    seen = look(model, x)
    names = ["up", "up#2", "up#3", "up#4"]
    assert seen.described() == dict.fromkeys(names, ("silu", 8))
    assert all(site.reads == ("down",) for site in seen.sites.values())
    assert [seen.vitals[name].examples for name in names] == [3, 0, 5, 1]
    z = (x[3:8].float() @ model.up[2].float())[:, :8].detach()
    assert torch.allclose(torch.from_numpy(seen.vitals["up#3"].z_max), z.amax(0), atol=0.1)
