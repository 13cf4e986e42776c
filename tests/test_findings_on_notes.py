"""Findings about a training as a whole: planted faults are named, what looks like one is not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import flatline
from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.parameters import frozen_parameters
from flatline.diagnose.findings.structure import missing_nonlinearity, output_activation
from flatline.diagnose.findings.updates import stale_gradients, weight_decay_collapse
from flatline.sense.history import History, Note, Steps
from looking import Net

PIXELS, DIGITS = (torch.tensor(part) for part in load_digits(return_X_y=True))
PIXELS = PIXELS.float() / 16
MINE = {
    "frozen-parameters",
    "missing-nonlinearity",
    "output-activation",
    "stale-gradients",
    "weight-decay-collapse",
}


def mlp(*last, outputs=10, hidden=32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, outputs), *last,
    )  # fmt: skip


def adam(parameters):
    return torch.optim.Adam(parameters, 3e-3)


def found(model, loss=F.cross_entropy, optimizer=adam, targets=DIGITS, steps=60, zero=True):
    """Findings of this module's codes after a training on digits, by code."""
    optimizer = optimizer(model.parameters())
    draw = torch.Generator().manual_seed(0)
    monitor = flatline.Monitor(model, optimizer, budget=1.0)
    monitor._watch.watcher.pacer.due = lambda step, *_: step < 3 or step % 20 == 0
    with monitor:
        for _ in range(steps):
            rows = torch.randint(0, len(PIXELS), (64,), generator=draw)
            if zero:
                model.zero_grad()
            loss(model(PIXELS[rows]), targets[rows]).backward()
            optimizer.step()
    report = monitor.report()
    assert not report.lost
    return {one.code: one for one in report.findings if one.code in MINE}


def severities(findings):
    return {code: one.severity for code, one in findings.items()}


# -- healthy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        adam,
        lambda p: torch.optim.AdamW(p, 3e-3, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, 3e-3, weight_decay=0.3),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=5e-4),
    ],
    ids=["adam", "adamw", "strong decay", "sgd"],
)
def test_an_ordinary_training_has_none_of_these(optimizer):
    assert found(mlp(), optimizer=optimizer) == {}


# -- parameters -------------------------------------------------------------------------------


def trained():
    """A net whose body was trained, with a fresh head."""
    model = mlp()
    optimizer = adam(model.parameters())
    for _ in range(60):
        model.zero_grad()
        F.cross_entropy(model(PIXELS), DIGITS).backward()
        optimizer.step()
    model[4].reset_parameters()
    return model


def test_a_backbone_frozen_on_purpose_is_a_note_at_most():
    model = trained()
    model[:4].requires_grad_(False)
    for optimizer in (adam, lambda _: adam(model[4].parameters())):
        assert severities(found(model, optimizer=optimizer)) == {"frozen-parameters": "info"}


def test_a_trained_backbone_that_the_optimizer_lacks_is_a_note_at_most():
    model = trained()
    only_head = found(model, optimizer=lambda _: adam(model[4].parameters()))
    assert severities(only_head) == {"frozen-parameters": "info"}


def test_features_of_a_trained_backbone_are_a_note_at_most():
    body = trained()[:4]
    model = Net(lambda net, x: net.head(net.body(x).detach()), body=body, head=nn.Linear(32, 10))
    assert severities(found(model)) == {"frozen-parameters": "info"}


def test_adapters_beside_a_trained_layer_are_a_note_at_most():
    """The second factor starts at 0, so that the first has no gradient at the first step."""
    model = trained()
    down, up = nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)
    nn.init.zeros_(up.weight)
    adapted = Net(
        lambda net, x: net.base[3:](net.base[2](h := net.base[:2](x)) + net.up(net.down(h))),
        base=model, down=down, up=up,
    )  # fmt: skip
    heads = [*down.parameters(), *up.parameters()]
    assert severities(found(adapted, optimizer=lambda _: adam(heads))) == {
        "frozen-parameters": "info"
    }


@pytest.mark.parametrize("part", ["0", "4"])
def test_a_fresh_layer_that_the_optimizer_lacks_is_forgotten(part):
    model = mlp()
    kept = [p for n, p in model.named_parameters() if not n.startswith(part)]
    one = found(model, optimizer=lambda _: adam(kept))["frozen-parameters"]
    assert one.severity in ("warning", "critical")
    assert one.message.startswith(f"{part}.weight, {part}.bias (")
    assert "no optimizer" in one.message
    assert one.evidence["drawn"] == 1


def test_a_fresh_layer_that_detach_cuts_off_is_forgotten():
    model = mlp()
    model[1].register_forward_hook(lambda _, args, out: out.detach())
    one = found(model)["frozen-parameters"]
    assert one.severity == "critical"  # 58 % of the model
    assert one.message.startswith("0.weight, 0.bias (")
    assert "detach()" in one.message
    assert one.sites == ("0",)


def test_a_spare_head_that_nothing_uses_is_no_fault():
    model = Net(lambda net, x: net.inner(x), inner=mlp(), spare=nn.Linear(500, 500))
    assert found(model) == {}


def test_a_head_whose_output_no_loss_uses_is_no_fault():
    def forward(net, x):
        h = net.body(x)
        net.pooled = torch.tanh(net.pooler(h))
        return net.head(h)

    model = Net(forward, body=mlp(outputs=32), pooler=nn.Linear(32, 300), head=nn.Linear(32, 10))
    assert "frozen-parameters" not in found(model, steps=30)


def test_an_expert_that_nothing_is_sent_to_is_not_called_frozen():
    def routed(net, x):
        out = torch.zeros(len(x), 10)
        for index, expert in enumerate(net.experts):
            rows = (x[:, 20] * 0).long() == index  # all to the first one
            out = out.index_add(0, rows.nonzero()[:, 0], expert(x[rows]))
        return out

    model = Net(routed, experts=nn.ModuleList([mlp(), mlp()]))
    assert found(model) == {}


def test_layers_cut_off_by_dead_units_are_not_called_frozen():
    model = mlp()
    nn.init.constant_(model[2].bias, -1e3)
    assert "frozen-parameters" not in found(model)


def test_a_schedule_that_begins_and_ends_at_zero_freezes_nothing():
    model = mlp()
    optimizer = adam(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: max(0, min(i, 60 - i)) / 30)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    assert found(model, optimizer=lambda _: optimizer) == {}


# -- structure --------------------------------------------------------------------------------


def test_a_net_without_any_nonlinearity_is_one_linear_map():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10))
    one = found(model)["missing-nonlinearity"]
    assert one.severity == "warning"  # digits are nearly separable
    assert one.message == (
        "no nonlinearity lies between 0 → 1, 1 → 2, so the whole network is one linear map"
    )


def test_it_is_critical_where_a_straight_line_does_not_do():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 2))
    parity = (PIXELS[:, ::7].sum(1) * 8).long() % 2
    assert severities(found(model, targets=parity)) == {"missing-nonlinearity": "critical"}


def test_a_single_linear_layer_and_a_linear_autoencoder_lack_nothing():
    torch.manual_seed(0)
    assert found(nn.Linear(64, 10)) == {}
    squeezed = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 64))
    assert found(squeezed, F.mse_loss, targets=PIXELS) == {}


def test_separable_convolutions_lack_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    assert found(model, steps=40) == {}


# -- outputs ----------------------------------------------------------------------------------

EVEN = (DIGITS % 2).float()[:, None]
SIZES = PIXELS.mean(1, keepdim=True) * 20 - 6
SEVERAL = torch.stack([DIGITS > 4, DIGITS % 2 == 0, DIGITS % 3 == 0], 1).float()
ONE_HOT = F.one_hot(DIGITS, 10).float()


def written_out(out, targets):
    """Cross-entropy as Keras computes it."""
    shares = out / out.sum(-1, keepdim=True)
    return -(targets * shares.clamp(1e-7, 1 - 1e-7).log()).sum(-1).mean()


MISFITS = {
    "softmax of one": (mlp(nn.Softmax(1), outputs=1), F.binary_cross_entropy, EVEN, "always 1"),
    "cross-entropy of one": (mlp(outputs=1), F.cross_entropy, 0 * DIGITS, "always 0"),
    "sigmoid on sizes": (mlp(nn.Sigmoid(), outputs=1), F.mse_loss, SIZES, "out of reach"),
    "tanh on sizes": (mlp(nn.Tanh(), outputs=1), F.l1_loss, SIZES, "out of reach"),
    "relu below zero": (mlp(nn.ReLU(), outputs=1), F.mse_loss, SIZES, "out of reach"),
    "classes by one sigmoid": (
        mlp(nn.Sigmoid(), outputs=1),
        lambda out, y: -(y * (out + 1e-7).log() + (1 - y) * (1 - out + 1e-7).log()).mean(),
        (DIGITS % 3).float()[:, None], "out of reach",
    ),
    "several labels": (mlp(nn.Softmax(1), outputs=3), F.mse_loss, SEVERAL, "add up to 1"),
    "several labels, written out": (mlp(nn.Softmax(1), outputs=3), written_out, SEVERAL, "add up"),
    "linear outputs as logarithms": (mlp(), F.nll_loss, DIGITS, "outputs are linear"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_outputs_that_cannot_give_what_is_asked_are_critical(name):
    model, loss, targets, says = MISFITS[name]
    one = found(model, loss, targets=targets)["output-activation"]
    assert one.severity == "critical"
    assert says in one.message


DOUBTS = {
    "softmax twice": (mlp(nn.Softmax(1)), F.cross_entropy, DIGITS, "takes a softmax itself"),
    "sigmoid twice": (
        mlp(nn.Sigmoid(), outputs=1), F.binary_cross_entropy_with_logits, EVEN, "itself",
    ),
    "relu on logits": (mlp(nn.ReLU()), F.cross_entropy, DIGITS, "cannot rule anything out"),
    "softmax as a logarithm": (mlp(nn.Softmax(1)), F.nll_loss, DIGITS, "gets softmax itself"),
    "relu as shares": (mlp(nn.ReLU()), written_out, ONE_HOT, "wants outputs that add up to 1"),
    "sigmoids as shares": (mlp(nn.Sigmoid()), written_out, ONE_HOT, "and gets sigmoid"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTS)
def test_outputs_that_fit_the_loss_badly_are_told(name):
    model, loss, targets, says = DOUBTS[name]
    one = found(model, loss, targets=targets)["output-activation"]
    assert one.severity in ("warning", "critical")
    assert says in one.message


FITS = {
    "sigmoid on 0 and 1": (mlp(nn.Sigmoid(), outputs=1), F.binary_cross_entropy, EVEN),
    "sigmoid and squares": (mlp(nn.Sigmoid(), outputs=1), F.mse_loss, EVEN),
    "relu on sizes above zero": (mlp(nn.ReLU(), outputs=1), F.mse_loss, SIZES - SIZES.min()),
    "tanh on signs": (mlp(nn.Tanh(), outputs=1), F.mse_loss, 2 * EVEN - 1),
    "a scaled tanh": (
        Net(lambda net, x: 30 * net.inner(x), inner=mlp(nn.Tanh(), outputs=1)), F.mse_loss, SIZES,
    ),
    "log softmax and likelihood": (mlp(nn.LogSoftmax(1)), F.nll_loss, DIGITS),
    "log softmax twice": (mlp(nn.LogSoftmax(1)), F.cross_entropy, DIGITS),
    "softmax and its logarithm": (mlp(nn.Softmax(1)), written_out, ONE_HOT),
    "softmax and squares": (mlp(nn.Softmax(1)), F.mse_loss, ONE_HOT),
    "smoothed shares": (mlp(), F.cross_entropy, 0.9 * ONE_HOT + 0.01),
    "several labels by logits": (mlp(outputs=3), F.binary_cross_entropy_with_logits, SEVERAL),
    "several labels by sigmoids": (mlp(nn.Sigmoid(), outputs=3), F.binary_cross_entropy, SEVERAL),
    "a log softmax by hand": (
        Net(lambda net, x: (z := net.inner(x)) - z.logsumexp(1, keepdim=True), inner=mlp()),
        F.nll_loss, DIGITS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_outputs_that_fit_are_left_alone(name):
    model, loss, targets = FITS[name]
    assert found(model, loss, targets=targets, steps=30) == {}


# -- updates ----------------------------------------------------------------------------------


def test_gradients_that_pile_up_are_stale():
    one = found(mlp(), optimizer=lambda p: torch.optim.SGD(p, 0.3), zero=False)["stale-gradients"]
    assert one.severity == "critical"
    assert one.message.startswith("gradients were not reset between 3 updates of SGD in a row")


def test_it_is_a_warning_where_the_net_learns_all_the_same():
    patient = found(mlp(), optimizer=lambda p: torch.optim.Adam(p, 1e-3), zero=False, steps=90)
    assert severities(patient) == {"stale-gradients": "warning"}


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=200.0),
        lambda p: torch.optim.SGD(p, 0.01, weight_decay=10.0),
    ],
    ids=["decoupled", "coupled"],
)
def test_decay_that_drives_weights_to_nothing_is_told(optimizer):
    one = found(mlp(), optimizer=optimizer)["weight-decay-collapse"]
    assert one.severity == "critical"
    assert one.evidence["weights"] < 0.1
    assert one.remedies[0].treatment.startswith("weight_decay=")


def test_weights_that_the_loss_makes_small_are_not():
    """An L1 penalty on activations inside the loss, and hardly any decay."""
    model = mlp()

    def sparse(out, targets):
        return F.cross_entropy(out, targets) + 10 * model[:2](PIXELS[:64]).mean()

    gentle = found(model, sparse, lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=1e-3))
    assert "weight-decay-collapse" not in gentle


def test_weights_under_a_normalisation_may_shrink():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)
    )
    groups = [
        {"params": model[0].parameters(), "weight_decay": 50.0},
        {"params": [*model[1].parameters(), *model[3].parameters()], "weight_decay": 0.0},
    ]
    normalised = found(model, optimizer=lambda _: torch.optim.AdamW(groups, 1e-3))
    assert normalised == {}


# -- without a training -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "search",
    [
        frozen_parameters,
        missing_nonlinearity,
        output_activation,
        stale_gradients,
        weight_decay_collapse,
    ],
)
def test_without_notes_nothing_is_said(search):
    assert search(Chart([])) is None


def test_a_run_too_short_to_judge_is_not_called_critical():
    note = Note(4, "stale", {"optimizer": "SGD", "steps": 3})
    short = Steps.of([(step, 1.0, 0.1, None) for step in range(19)])
    long = Steps.of([(step, 1.0, 0.1, None) for step in range(40)])
    assert stale_gradients(Chart([], History(short, notes=[note]))).severity == "warning"
    assert stale_gradients(Chart([], History(long, notes=[note]))).severity == "critical"
