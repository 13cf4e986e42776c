"""What is no unit is no site, and what cannot be placed is named with the reason."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flatline import activations
from flatline.anatomy.atlas import Atlas, Feed
from looking import Net, look

Linear, relu = nn.Linear, torch.relu


def classifier(*head: nn.Module, out: int = 3) -> nn.Sequential:
    return nn.Sequential(Linear(5, 6), nn.ReLU(), Linear(6, out), *head)


X = torch.randn(9, 5)
HIDDEN = {"0": ("relu", 6)}


@pytest.mark.parametrize(
    ("act", "name"),
    [
        pytest.param(nn.Sigmoid(), "sigmoid", id="sigmoid"),
        pytest.param(nn.Tanh(), "tanh", id="tanh"),
        pytest.param(nn.Softplus(), "softplus", id="softplus"),
        pytest.param(nn.ReLU(), "relu", id="relu"),
    ],
)
def test_the_last_nonlinearity_of_a_model_is_a_site_without_readers(act, name):
    seen = look(classifier(act, out=1), X)
    assert seen.described() == {**HIDDEN, "2": (name, 1)}
    assert seen.sites["2"].reads == ()
    assert seen.unplaced == {}


def test_a_softmax_is_a_function_of_all_units_at_once():
    seen = look(classifier(nn.Softmax(-1)), X)
    assert seen.described() == HIDDEN
    assert seen.unplaced == {"2 (softmax)": "it is a function of all units at once"}


LOSSES = {
    "cross entropy": lambda o: F.cross_entropy(o, torch.zeros(9, dtype=torch.long)),
    "BCE with logits": lambda o: F.binary_cross_entropy_with_logits(o, torch.ones_like(o)),
    "huber": lambda o: F.huber_loss(o, torch.ones_like(o)),
    "smooth L1": lambda o: F.smooth_l1_loss(o, torch.ones_like(o)),
    "KL divergence": lambda o: F.kl_div(o.log_softmax(-1), o.detach().exp(), reduction="sum"),
    "soft margin": lambda o: F.soft_margin_loss(o, torch.ones_like(o)),
    "multi margin": lambda o: F.multi_margin_loss(o, torch.zeros(9, dtype=torch.long)),
    "cosine": lambda o: F.cosine_embedding_loss(o, torch.ones_like(o), torch.ones(9)),
    "mean square by hand": lambda o: ((o - torch.ones_like(o)) ** 2).mean(),
    "mean absolute by hand": lambda o: (o - torch.ones_like(o)).abs().mean(),
    "policy gradient": lambda o: -(o.log_softmax(-1)[:, 0] * torch.rand(9)).mean(),
}


@pytest.mark.parametrize("loss", [pytest.param(f, id=key) for key, f in LOSSES.items()])
def test_a_loss_has_no_units_and_is_not_mentioned(loss):
    seen = look(classifier(), X, loss=loss)
    assert seen.described() == HIDDEN
    assert seen.unplaced == {}


BENT = {
    "hinge": (lambda o: relu(1 - o).mean(), "relu"),
    "hinge by clamp": (lambda o: (1 - o).clamp(min=0).mean(), "relu"),
    "non-saturating GAN": (lambda o: F.softplus(-o).mean(), "softplus"),
    "logistic": (lambda o: -F.logsigmoid(o).mean(), "logsigmoid"),
    "sigmoid before BCE": (
        lambda o: F.binary_cross_entropy(o.sigmoid(), torch.ones_like(o)),
        "sigmoid",
    ),
    "clipped values": (lambda o: o.clamp(-1, 1).square().mean(), "hardtanh"),
    "huber by hand": (lambda o: (0.5 * o.abs().clamp(max=1) ** 2).mean(), None),
}


@pytest.mark.parametrize(("loss", "name"), [pytest.param(*r, id=key) for key, r in BENT.items()])
def test_a_nonlinearity_outside_the_model_that_no_layer_reads_is_no_site(loss, name):
    seen = look(classifier(), X, loss=loss)
    assert seen.described() == HIDDEN
    if name is not None:
        because = "it is applied outside the model, as a loss is, and no layer reads it"
        assert seen.unplaced == {f"2 ({name})": because}


@pytest.mark.parametrize(("loss", "name"), [pytest.param(*r, id=key) for key, r in BENT.items()])
def test_a_loss_inside_the_model_is_no_site(loss, name):
    model = Net(lambda m, x: loss(m.net(x)), net=classifier())
    seen = look(model, X)
    assert seen.described() == {"net.0": ("relu", 6)}
    assert all(where.startswith("net.2 (") for where in seen.unplaced)
    if name is not None:
        because = "it is summed up to one number, as a part of a loss is, and no layer reads it"
        assert seen.unplaced == {f"net.2 ({name})": because}


def test_a_nonlinearity_between_two_models_is_a_site_if_the_second_reads_it():
    first, second = Linear(5, 6), Linear(6, 2)
    seen = look(lambda x: second(relu(first(x))), X, roots=[first, second])
    (site,) = seen.sites.values()
    assert (site.name, site.reads) == ("Linear", ("Linear#2.weight",))
    assert seen.unplaced == {}


def squeeze_and_excitation(m, x):
    z = m.conv(x)
    scale = m.gate(m.up(relu(m.down(z.mean((2, 3))))))
    return m.out(relu(z * scale[:, :, None, None]))


@pytest.mark.parametrize("gate", [nn.Sigmoid(), nn.Hardsigmoid()], ids=["sigmoid", "hardsigmoid"])
def test_a_gate_over_channels_is_no_site(gate):
    model = Net(
        squeeze_and_excitation,
        conv=nn.Conv2d(3, 4, 3),
        down=Linear(4, 2),
        up=Linear(2, 4),
        gate=gate,
        out=nn.Conv2d(4, 2, 1),
    )
    seen = look(model, torch.randn(2, 3, 8, 8))
    assert seen.described() == {"down": ("relu", 2), "conv": ("relu", 4)}
    assert seen.reads() == {"down": ["up.weight"], "conv": ["out.weight"]}
    (name,) = seen.unplaced
    assert name.startswith("up (")
    assert "gate" in seen.unplaced[name]


def test_a_gate_over_activated_channels_is_no_site():
    def run(m, x):
        h = relu(m.conv(x))
        return m.out(h * torch.sigmoid(m.gate(F.adaptive_avg_pool2d(h, 1))))

    model = Net(run, conv=nn.Conv2d(3, 4, 3), gate=nn.Conv2d(4, 4, 1), out=nn.Conv2d(4, 2, 1))
    seen = look(model, torch.randn(2, 3, 8, 8))
    assert seen.reads() == {"conv": ["gate.weight", "out.weight"]}
    assert [*seen.unplaced] == ["gate (sigmoid)"]


def test_a_gate_over_a_residual_stream_is_no_site():
    def run(m, x):
        h = m.a(x) + x
        return m.b(relu(m.c(h * torch.sigmoid(m.gate(h)))))

    model = Net(run, a=Linear(5, 5), gate=Linear(5, 5), c=Linear(5, 6), b=Linear(6, 2))
    seen = look(model, X)
    assert seen.described() == {"c": ("relu", 6)}
    assert [*seen.unplaced] == ["gate (sigmoid)"]


def test_a_gate_over_the_input_is_no_site():
    model = Net(
        lambda m, x: m.b(relu(m.a(x * torch.sigmoid(m.gate(x))))),
        a=Linear(5, 6),
        gate=Linear(5, 5),
        b=Linear(6, 2),
    )
    seen = look(model, X)
    assert seen.described() == {"a": ("relu", 6)}
    assert [*seen.unplaced] == ["gate (sigmoid)"]


def test_a_highway_layer_has_the_units_of_its_transform():
    def run(m, x):
        t = torch.sigmoid(m.gate(x))
        return m.out(t * relu(m.a(x)) + (1 - t) * x)

    model = Net(run, a=Linear(5, 5), gate=Linear(5, 5), out=Linear(5, 2))
    seen = look(model, X)
    assert seen.described() == {"a": ("relu", 5)}
    assert seen.reads() == {"a": ["out.weight"]}
    assert [*seen.unplaced] == ["gate (sigmoid)"]


def test_functions_of_parameters_are_no_sites():
    """A learned temperature, a bounded scale, a gate of one number per channel."""

    def run(m, x):
        h = relu(m.a(x)) * torch.sigmoid(m.gate)
        return m.b(h) * m.temperature.exp().clamp(max=100) + F.softplus(m.shift)

    model = Net(
        run,
        a=Linear(5, 6),
        b=Linear(6, 2),
        gate=nn.Parameter(torch.zeros(6)),
        temperature=nn.Parameter(torch.zeros(())),
        shift=nn.Parameter(torch.zeros(2)),
    )
    seen = look(model, X)
    assert seen.described() == {"a": ("relu", 6)}
    assert seen.unplaced == {}


def test_numerical_guards_are_not_mentioned():
    def run(m, x):
        h = m.a(x)
        scores = (h @ h.t()).clamp(-10, 10)
        return m.b(relu(m.c(scores.softmax(-1) @ F.normalize(h)))) / h.norm().clamp_min(1e-6)

    model = Net(run, a=Linear(5, 6), c=Linear(6, 6), b=Linear(6, 2))
    seen = look(model, X)
    assert seen.described() == {"c": ("relu", 6)}
    assert seen.unplaced == {}


def two_branches(m, x):
    other = m.c(x) @ m.c(x).t() @ m.c(x)
    return relu(m.a(x) * other)


def noise(m, x):
    return m.a(x) + torch.randn(9, 6) * m.c(x).exp()


NAMED = {
    "an input that no layer made": (lambda m, x: relu(m.a(x) @ m.c(x).t())[:, :6], "Net (relu)"),
    "a product of layers": (lambda m, x: relu(m.a(x) * m.c(x)), "a (relu)"),
    "a product with another branch": (two_branches, "a (relu)"),
    "the larger of two layers": (lambda m, x: torch.maximum(m.a(x), m.c(x)), "a (maximum)"),
    "the larger of two units": (
        lambda m, x: m.a(x).view(-1, 3, 2).amax(-1)[:, [0] * 6],
        "a (amax)",
    ),
    "a formula": (lambda m, x: torch.sin(m.a(x)), "a (sin)"),
    "a formula that ends in a sum": (noise, "c (exp)"),
    "one on top of another": (lambda m, x: torch.tanh(relu(m.a(x))), "a (tanh)"),
    "softshrink": (lambda m, x: F.softshrink(m.a(x)), "a (softshrink)"),
    "hardshrink": (lambda m, x: F.hardshrink(m.a(x)), "a (hardshrink)"),
    "tanhshrink": (lambda m, x: F.tanhshrink(m.a(x)), "a (tanh sub)"),
}


@pytest.mark.parametrize(("run", "name"), [pytest.param(*r, id=key) for key, r in NAMED.items()])
def test_what_cannot_be_placed_is_named(run, name):
    model = Net(lambda m, x: m.b(run(m, x)), a=Linear(5, 6), c=Linear(5, 6), b=Linear(6, 2))
    seen = look(model, torch.randn(9, 5))
    idle = "it did not run in an examined step"
    assert [key for key, because in seen.unplaced.items() if because != idle] == [name]
    assert all(site.activation.name == "relu" for site in seen.sites.values())


@torch.library.custom_op("flatline_tests::bend", mutates_args=())
def bend(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(min=0) * 2


bend.register_autograd(lambda ctx, g: g)


def test_an_operator_of_another_library_is_named():
    model = Net(lambda m, x: m.b(bend(m.a(x))), a=Linear(5, 6), b=Linear(6, 2))
    seen = look(model, X)
    assert seen.sites == {}
    assert [*seen.unplaced] == ["a (bend)"]
    assert "another library" in seen.unplaced["a (bend)"]


def test_a_reason_is_kept_until_a_reader_turns_up():
    """In the first step the branch behind the gate does not run."""

    def run(m, x, more):
        gate = torch.sigmoid(m.gate(x))
        out = x * gate[:, :1]
        return out + m.read(gate) if more else out

    model = Net(run, gate=Linear(5, 6), read=Linear(6, 5))
    atlas_sites = look(model, X, False)
    assert atlas_sites.sites == {}
    assert look(model, X, True).described() == {"gate": ("sigmoid", 6)}


def test_an_atlas_names_what_becomes_a_site_later():
    atlas = Atlas()
    feed = Feed("a.weight", torch.zeros(3, 2), 0)
    places = [atlas.place("a", activations.get(act), [feed], "", 3) for act in ("relu", "tanh")]
    for place in places:
        place.seen = True
    places[0].doubts["for some reason"] = None
    assert [place.name for place in atlas.settle()] == ["a"]
    assert [(one.name, one.because) for one in atlas.unplaced] == [("a (relu)", "for some reason")]
    places[0].reads["b.weight"] = None
    assert [place.name for place in atlas.settle()] == ["a", "a#2"]
    assert atlas.unplaced == ()
