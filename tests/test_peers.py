"""Who takes part in the comparison with other tools, how they watch, and how they are scored."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers.__main__ import main
from benchmarks.peers.deepfd import DeepFD, fit_and_diagnose
from benchmarks.peers.peer import Peer
from benchmarks.peers.recorder import Recorder
from benchmarks.peers.recording import Epoch, Step
from benchmarks.peers.roster import ABSENT, PEERS
from benchmarks.peers.score import Run, Training, Verdict, observe, row, table
from flatline.diagnose.names import CODES
from scenes import call, epochs

BATCHES, BATCH = 6, 16


class Net(nn.Module):
    """Modules and functions, in place and not, called once and twice, with state of their own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Linear(32, 12)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Linear(12, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.tanh(self.norm(self.stem(x[:, None])))
        x = self.drop(self.act(self.first(x.flatten(1))))
        x = F.relu(self.second(x), inplace=True)
        return self.head(F.relu(self.second(x)))


def training(steps=2 * BATCHES, kill=False):
    """A small classification; ``kill`` gives most of a layer a bias it does not recover from."""
    torch.manual_seed(0)
    data, labels = torch.randn(BATCHES * BATCH, 8), torch.randint(3, (BATCHES * BATCH,))
    model = Net()
    if kill:
        with torch.no_grad():
            model.first.bias[:10] = -100.0
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    batches = iter([rows for _ in range(9) for rows in torch.randperm(len(data)).split(BATCH)])

    def step():
        rows = next(batches)
        optimizer.zero_grad()
        F.cross_entropy(model(data[rows]), labels[rows]).backward()
        optimizer.step()

    def validate():
        outputs = model(data)
        loss = F.cross_entropy(outputs, labels)
        return float(loss), float((outputs.argmax(1) == labels).float().mean())

    return Training(model, optimizer, step, steps, BATCHES, validate)


class Everything(Peer):
    """Keeps all that it is shown."""

    name, source, blind = "everything", "", ""
    codes = {}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.steps, self.epochs, self.ended = [], [], False

    def step(self, step):
        self.steps.append(step)

    def epoch(self, epoch):
        self.epochs.append(epoch)

    def end(self):
        self.ended = True


def seen(made=None):
    made = made or training()
    peer = Everything()
    with Recorder(made.model, made.optimizer, [peer], made.steps_per_epoch, made.validate):
        for _ in range(made.steps):
            made.step()
    return peer


def test_watching_changes_no_bit_of_the_training_and_leaves_nothing_behind():
    bare = training()
    for _ in range(bare.steps):
        bare.step()
    after_bare = torch.get_rng_state()
    watched = training()
    with Recorder(
        watched.model, watched.optimizer, [p() for p in PEERS], BATCHES, watched.validate
    ):
        for _ in range(watched.steps):
            watched.step()
    assert torch.equal(torch.get_rng_state(), after_bare)
    ours, theirs = watched.model.state_dict(), bare.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for a, b in zip(watched.optimizer.state.values(), bare.optimizer.state.values(), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in b)
    for module in watched.model.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not watched.optimizer._optimizer_step_pre_hooks
    assert not watched.optimizer._optimizer_step_post_hooks
    assert torch.overrides._len_torch_function_stack() == 0


def test_every_call_is_seen_once_modules_and_functions_apart():
    names = [(c.name, c.kind, c.module) for c in seen().steps[0].calls]
    assert names == [
        ("stem", "Conv1d", True),
        ("norm", "BatchNorm1d", True),
        ("tanh", "tanh", False),
        ("first", "Linear", True),
        ("act", "relu", True),
        ("drop", "Dropout", True),
        ("second", "Linear", True),
        ("relu", "relu", False),
        ("second", "Linear", True),
        ("relu#2", "relu", False),
        ("head", "Linear", True),
        ("", "Net", True),
    ]


def test_outputs_and_inputs_are_those_before_anything_was_done_to_them_in_place():
    calls = {c.name: c for c in seen().steps[0].calls}
    assert (calls["first"].output < 0).any()
    assert torch.equal(calls["act"].input, calls["first"].output)
    assert torch.equal(calls["act"].output, calls["first"].output.relu())
    assert torch.equal(calls["relu#2"].output, calls["relu#2"].input.relu())
    assert [calls[name].axis for name in ("stem", "tanh", "act")] == [1, 1, -1]


def test_gradients_of_outputs_are_autograds():
    made = training()
    step = seen(training()).steps[0]
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            assert torch.equal(parameter, step.weights[name])
    logits = next(c for c in reversed(step.calls) if c.name == "head")
    guess = logits.output.clone().requires_grad_()
    F.cross_entropy(guess, step.targets).backward()
    assert torch.allclose(logits.grad, guess.grad)
    head = next(c for c in step.calls if c.name == "relu#2").output
    assert torch.allclose(step.grads["head.weight"], logits.grad.T @ head, atol=1e-6)


def test_steps_hold_loss_rate_targets_accuracy_and_the_update():
    for step in seen().steps:
        assert step.loss == pytest.approx(float(F.cross_entropy(step.outputs, step.targets)))
        right = (step.outputs.argmax(1) == step.targets).double().mean()
        assert step.accuracy == pytest.approx(float(right))
        assert step.lr == 1e-2
        assert step.inputs.shape == (BATCH, 8)
        assert not torch.equal(step.weights["head.weight"], step.updated["head.weight"])


def test_an_epoch_ends_with_a_census_of_the_model_on_all_its_inputs():
    made = training()
    peer = seen(made)
    assert [len(peer.steps), len(peer.epochs), peer.ended] == [12, 2, True]
    last = peer.epochs[-1]
    assert last.loss == pytest.approx(np.mean([step.loss for step in peer.steps[-BATCHES:]]))
    made.model.eval()
    with torch.no_grad():
        inputs = torch.cat([step.inputs for step in peer.steps[-BATCHES:]])
        outputs = made.model(inputs)
        assert (last.val_loss, last.val_accuracy) == pytest.approx(made.validate())
    census = {c.name: c.output for c in last.census}
    assert torch.allclose(census[""], outputs, atol=1e-6)
    assert census["act"].shape == (BATCHES * BATCH, 12)


def test_a_last_epoch_that_is_cut_short_is_counted_on_the_whole_data_all_the_same():
    peer = seen(training(steps=2 * BATCHES + 1))
    assert len(peer.epochs) == 3
    assert len(peer.epochs[-1].census[0].output) == BATCHES * BATCH


def test_what_is_not_training_is_not_seen():
    made = training(steps=1)
    step = made.step

    def with_validation():
        made.model.eval()
        with torch.no_grad():
            made.validate()
        made.model.train()
        step()

    object.__setattr__(made, "step", with_validation)
    assert len(seen(made).steps[0].calls) == 12


def test_a_training_that_fails_is_let_fail_and_still_concluded():
    made, peer = training(), Everything()

    def failing():
        with Recorder(made.model, made.optimizer, [peer], BATCHES, made.validate):
            made.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert (len(peer.steps), len(peer.epochs), peer.ended) == (1, 1, True)
    assert torch.overrides._len_torch_function_stack() == 0


# The answer that a Keras program would have


@pytest.mark.parametrize(
    ("criterion", "last", "kind"),
    [
        ("cross_entropy", "Linear", "softmax"),
        ("cross_entropy", "relu", "relu"),
        ("binary_cross_entropy_with_logits", "Linear", "sigmoid"),
        ("mse_loss", "Linear", "linear"),
        ("nll_loss", "log_softmax", "softmax"),
    ],
)
def test_softmax_and_sigmoid_inside_the_loss_belong_to_the_answer(criterion, last, kind):
    outputs = torch.randn(4, 3)
    given = outputs.log_softmax(1) if last == "log_softmax" else outputs
    step = Step(calls=[call(last, given), call("Dropout", given, "2")])
    step.criterion, step.outputs = criterion, given
    found, answer = step.answer()
    assert found == kind
    functions = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid}
    assert torch.allclose(answer, functions.get(kind, lambda x: x)(outputs))


# DeepFD


def history(losses, accuracies):
    peer = DeepFD()
    known = {"0.weight": torch.ones(2, 2)}
    found = [
        Epoch(last=Step(updated=known, weights=known), loss=loss, accuracy=accuracy)
        for loss, accuracy in zip(losses, accuracies, strict=True)
    ]
    return epochs(peer, *found).features().reshape(8, 22)


def test_deepfd_sums_up_each_series_in_eight_figures():
    losses = np.array([4.0, 2.0, 1.0, 1.5])
    figures = history(losses, [0.1, 0.2, 0.3, 0.9])
    mean, deviation, skew, median, variance, error, high, low = figures
    assert mean[0] == pytest.approx(losses.mean())
    assert deviation[0] == pytest.approx(losses.std(ddof=1))
    cubes = ((losses - losses.mean()) / losses.std(ddof=1)) ** 3
    assert skew[0] == pytest.approx(4 / (3 * 2) * cubes.sum())
    assert (median[0], high[0], low[0]) == (1.75, 4.0, 1.0)
    assert variance[0] == pytest.approx(losses.var(ddof=1))
    assert error[0] == pytest.approx(losses.std(ddof=1) / 2)
    assert (mean[1], high[1]) == (pytest.approx(0.375), pytest.approx(0.9))


def test_deepfd_counts_signs_as_they_come():
    high = history([4.0, 2.0, 3.0, float("inf")], [0.5, 0.6, 0.5, 0.5])[6]
    assert high[6] == 1  # a loss that is not finite
    assert high[17] == 1  # accuracy down
    assert high[18] == 2  # loss up
    assert (high[19], high[20]) == (3, 3)  # mean and deviation of the weights as before
    assert (high[4], high[9]) == (1, 0)  # never accurate; rose by more than 0.01


def test_deepfd_recognises_what_it_was_fitted_on_and_takes_no_label_for_healthy():
    draw = np.random.default_rng(0)
    centres = {frozenset(): 0.0, frozenset({"a"}): 5.0, frozenset({"b"}): 10.0}
    labels = [codes for codes in centres for _ in range(12)]
    known = [draw.normal(centres[codes], 0.1, 176).astype(np.float32) for codes in labels]
    asked = [np.full(176, centre, np.float32) for centre in centres.values()]
    assert fit_and_diagnose(known, labels, asked) == list(centres)


# The table

HEALTHY = frozenset()


def run(name, *codes, sick=True, choose=False, **options):
    findings = [("dying-relu", "critical"), ("dormant-units", "warning")] if sick else []
    build, found = (lambda: training(**options)), (lambda: findings)
    return Run(name, sick, frozenset(codes), choose, build, found)


def test_a_row_counts_alarms_right_diagnoses_and_false_alarms():
    runs = [
        run("right", "dying-relu"),
        run("wrong", "dying-relu"),
        run("missed", "dying-relu"),
        run("healthy", sick=False),
        run("fooled", sick=False),
        run("harmless", "dormant-units", sick=False),
        run("not asked", "dying-relu"),
    ]
    dead, slow = (Verdict({"x": 0, "y": 1}, frozenset({code}))
                  for code in ("dying-relu", "learning-rate-too-low"))  # fmt: skip
    dormant = Verdict({"z": 0}, frozenset({"dormant-units"}))
    verdicts = {"right": dead, "wrong": slow, "missed": Verdict(), "healthy": Verdict(),
                "fooled": slow, "harmless": dormant}  # fmt: skip
    found = row("peer", verdicts, runs)
    assert (found.sick, found.detected, found.right) == (3, 2, 1)
    assert (found.healthy, found.false_alarms) == (3, 1)
    assert (found.recall, found.precision, found.words) == (2 / 3, 2 / 3, 7 / 4)
    assert "2/3  67%       1/3  33%       1/3  33%       67%   1.8" in table([found])


def test_a_peer_that_never_speaks_has_no_precision():
    found = row("peer", {"a": Verdict()}, [run("a", "dying-relu")])
    assert (found.recall, found.precision) == (0.0, None)
    assert "–" in table([found])


def test_peers_that_count_silent_units_see_those_that_were_killed():
    said = {peer.name: peer.said for peer in observe(run("killed", kill=True))}
    for name in ("keras-contrib DeadReluDetector", "DeadNeurons", "UvA notebook"):
        assert "dead" in said[name], name
    assert "DeadRelu" in said["SageMaker Debugger, every step"]
    assert "DeadRelu" not in said["SageMaker Debugger, defaults"]


def test_the_command_prints_and_writes_the_figures_of_the_reported_half(tmp_path, capsys):
    runs = [
        run("sick 1", "dying-relu", choose=True, kill=True),
        run("well 1", sick=False, choose=True),
        run("sick 2", "dying-relu", "born-dead", kill=True),
        run("well 2", sick=False),
    ]
    threads = torch.get_num_threads()
    assert main(["--output", str(tmp_path / "new" / "peers.json")], runs) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "new" / "peers.json").read_text())
    figures = {found["peer"]: found for found in written["figures"]}
    assert set(figures) == {peer.name for peer in PEERS} | {
        "flatline, critical", "flatline, with warnings"
    }  # fmt: skip
    assert all((f["sick"], f["healthy"]) == (1, 1) for f in figures.values())
    assert figures["keras-contrib DeadReluDetector"]["right"] == 1
    assert [figures[f"flatline, {what}"]["words"] for what in ("critical", "with warnings")] == [
        1,
        2,
    ]
    assert all(name in printed for name in (*figures, *ABSENT))
    assert [found["half"] for found in written["runs"]] == ["choose", "choose", "report", "report"]
    assert {"command", "versions", "machine", "absent"} <= set(written)


def test_the_command_says_when_no_run_has_the_name(capsys, tmp_path):
    assert main(["--only", "nothing", "--output", str(tmp_path / "x")], [run("a")]) == 2
    assert "'nothing'" in capsys.readouterr().err


# Who takes part


def test_every_peer_cites_its_source_and_says_what_it_cannot_see():
    names = [peer.name for peer in PEERS]
    assert len(set(names)) == len(names)
    assert not set(names) & set(ABSENT)
    for peer in PEERS:
        assert "/" in peer.source, peer.name
        assert peer.blind, peer.name
        assert peer.__doc__, peer.name


def test_a_peers_words_mean_only_what_flatline_can_find():
    for peer in PEERS:
        assert set().union(*peer.codes.values()) <= set(CODES), peer.name
