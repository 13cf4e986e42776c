"""The real ``flatline run`` on real training scripts, beside plain python."""

from __future__ import annotations

import json
import re
import signal
import textwrap
import time

import numpy as np
import pytest

#: A training of which every bit that it computed can be compared.
TRAINING = """
import hashlib, sys, time
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

def train(model, optimizer, batches):
    for x in batches:
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        yield loss

def batches(steps):
    for _ in range(steps):
        yield torch.randn(32, 8)

def digest(model):
    bits = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    return hashlib.sha1(bits + torch.get_rng_state().numpy().tobytes()).hexdigest()
"""

WHOLE = (
    TRAINING
    + """
model, optimizer = build()
for loss in train(model, optimizer, batches(30)):
    pass
print(digest(model))
"""
)


@pytest.fixture
def runs(twice):
    """Programs run from a directory of their own, and nothing stands in for anything."""
    twice.env["PYTHONPATH"] = twice.env["PYTHONPATH"].rpartition(":")[2]
    twice.env["COLUMNS"] = "80"
    return twice


def reported(runs, *options: str) -> dict:
    """What ``flatline report --json -`` says of a run."""
    status, output, errors = runs.run(*runs.flatline, "report", *options, "--json", "-")
    assert (status, errors) == (0, "")
    return json.loads(output)


SIGHTS = (
    TRAINING
    + """
import argparse, atexit, io, os, signal, threading

parser = argparse.ArgumentParser()
parser.add_argument("-m", type=int)
parser.add_argument("--json")
parser.add_argument("--budget", type=float)
parser.add_argument("rest", nargs="*")
print(sys.argv, parser.parse_args(), __name__, __file__, sys.path[0], os.getcwd())
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook)

model, optimizer = build()
atexit.register(lambda: print("atexit", digest(model)))
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
signal.signal(signal.SIGUSR1, lambda *args: print("signal"))
aside, sys.stdout = sys.stdout, io.StringIO()
for step, loss in enumerate(train(model, optimizer, batches(30))):
    print("hidden", step)
    if step == 10:
        os.kill(os.getpid(), signal.SIGUSR1)
    if step == 20:
        os.makedirs("away")
        os.chdir("away")
hidden, sys.stdout = sys.stdout.getvalue(), aside
print(len(hidden), hidden.count("signal"), digest(model))
os.write(1, b"\\xff bytes\\n".replace(b"\\xff", b"?"))
sys.exit(f"text for {os.path.basename(os.getcwd())}")
"""
)


def test_a_training_sees_and_does_the_same(runs):
    runs.write("train.py", SIGHTS)
    command = ("train.py", "--json", "x", "-m", "3", "--budget", "7", "--", "--quiet", "-")
    plain = runs.run(*command)
    (runs.folder / "away").rmdir()

    assert runs.watched("--quiet", "--name", "all of it", "--", *command) == plain
    assert plain[0] == 1
    assert plain[2] == "text for away\n"

    report = reported(runs)
    assert report["run"]["name"] == "all of it"
    assert (report["run"]["status"], report["run"]["steps"]) == ("failed", 30)
    assert [site["name"] for site in report["sites"]] == ["0"]
    assert [step for step, _ in report["metrics"]["loss"]] == list(range(30))


def test_a_module_of_a_package_fails_the_same(runs):
    """In the midst of an exam, of which the traceback must not tell."""
    runs.write("pkg/__init__.py", "")
    runs.write(
        "pkg/train.py",
        TRAINING
        + """
print(sys.argv, __name__, __file__, sys.path[0], __package__, __spec__.name)
class Broken(nn.Module):
    def forward(self, x):
        try:
            return x @ torch.zeros(3, 3)
        except RuntimeError as error:
            raise ValueError("no such shape") from error
model, optimizer = build()
train(nn.Sequential(model, Broken()), optimizer, batches(1)).__next__()
""",
    )
    status, _, errors = runs.same("-m", "pkg.train", "-m", "--json")

    assert status == 1
    assert "mat1 and mat2 shapes" in errors
    assert errors.endswith("ValueError: no such shape\n")
    report = reported(runs)
    assert report["run"]["status"] == "failed"
    assert "failed before its first optimizer step" in report["lost"][0]["why"]


ENDINGS = {
    "own hook": """
        def hook(kind, error, trace):
            print("hook", kind, error, trace.tb_frame.f_code.co_filename, trace.tb_next)
        sys.excepthook = hook
        raise ValueError("mine")
        """,
    "at once": "import os; sys.stdout.flush(); os._exit(7)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_training_ends_the_same(runs, ending):
    runs.write("train.py", WHOLE + textwrap.dedent(ENDINGS[ending]))

    status, output, _ = runs.same("train.py")

    assert (status, len(output.splitlines()[0])) == ({"own hook": 1, "at once": 7}[ending], 40)
    run = reported(runs)["run"]
    assert run["status"] == {"own hook": "failed", "at once": "interrupted"}[ending]


WORKERS = (
    TRAINING
    + """
import multiprocessing, os
from torch.utils.data import DataLoader, Dataset

class Noise(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return torch.randn(8, generator=torch.Generator().manual_seed(index))

def work(number):
    model, optimizer = build()
    return [round(float(loss.detach()), 6) for loss in train(model, optimizer, batches(number))]

if __name__ == "__main__":
    model, optimizer = build()
    for loss in train(model, optimizer, batches(2)):
        pass
    pid = os.fork()
    if pid == 0:
        for loss in train(model, optimizer, batches(3)):
            pass
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    for method, persistent in (("fork", False), ("fork", True), ("spawn", True)):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(pool.map(work, [2]))
        loader = DataLoader(
            Noise(), 32, num_workers=1, persistent_workers=persistent,
            multiprocessing_context=method,
        )
        for epoch in range(2):
            for loss in train(model, optimizer, loader):
                pass
    print(digest(model))
"""
)


def test_workers_and_children_work_the_same(runs):
    runs.write("train.py", WORKERS)

    status, _, errors = runs.same("train.py")

    assert (status, errors) == (0, "")
    report = reported(runs)
    assert (report["run"]["status"], report["run"]["steps"]) == ("finished", 14)
    assert report["lost"] == []


ENDLESS = (
    TRAINING
    + """
diary = open("diary", "w", buffering=1)
model, optimizer = build()
for step, loss in enumerate(train(model, optimizer, batches(10**9))):
    diary.write(f"{time.time()} {step} {loss.item()}\\n")
    if step == 40:
        print("training", flush=True)
"""
)


def interrupted(runs, kind: int, *command: str) -> tuple[int, str]:
    """Status and standard error of a training that gets a signal."""
    with runs.started(*command) as process:
        assert process.stdout.readline() == "training\n"
        process.send_signal(kind)
        errors = process.communicate(timeout=60)[1]
        return process.returncode, errors


def test_control_c_in_the_midst_of_training_leaves_a_report(runs):
    runs.write("train.py", ENDLESS)
    plain = interrupted(runs, signal.SIGINT, "train.py")
    ours = interrupted(runs, signal.SIGINT, *runs.flatline, "run", "train.py")

    assert ours[0] == plain[0] == -signal.SIGINT
    assert plain[1].endswith("KeyboardInterrupt\n")
    trace, _, report = ours[1].partition("\nKeyboardInterrupt\n")
    assert "flatline" not in trace
    assert trace.startswith("Traceback (most recent call last):\n  File")
    assert re.search(r"^train \([0-9a-f]+\) · interrupted after [\d,]+ steps$", report, re.M)
    assert reported(runs)["run"]["status"] == "interrupted"


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_is_killed_is_stored_up_to_the_last_second(runs, kind):
    runs.write("train.py", ENDLESS)
    with runs.started(*runs.flatline, "run", "train.py") as process:
        assert process.stdout.readline() == "training\n"
        time.sleep(np.random.default_rng().uniform(1.0, 2.0))
        process.send_signal(kind)
        end = time.time()
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == -kind

    report = reported(runs)
    diary = [line.split() for line in (runs.folder / "diary").read_text().splitlines()]
    seen = report["metrics"]["loss"]
    assert report["run"]["status"] == "interrupted"
    assert [step for step, _ in seen] == list(range(len(seen)))
    assert [loss for _, loss in seen] == [float(loss) for *_, loss in diary[: len(seen)]]
    assert report["sites"][0]["examples"] >= 32
    assert end - float(diary[len(seen) - 1][0]) < 4  # a second, on a machine that is not busy


def test_options_of_run_together(runs):
    """Standard output is JSON and nothing else, whatever the program prints; a rule holds."""
    dead = "with torch.no_grad():\n    model[0].bias[:8] = -1e3\nprint(sys.argv)\n"
    source = WHOLE.replace("for loss", dead + "for loss").replace("Dropout(0.1)", "Identity()")
    runs.write("train.py", source)
    (runs.folder / "kept").mkdir()
    options = ("--json", "-", "--quiet", "--name", "by hand", "--store", "kept/my runs.db")
    amounts = ("--max-steps", "20", "--budget", "50", "--units", "3")
    rules = ("--fail-on", "critical", "--fail-on", "dead>60%", "--fail-on", "born-dead")

    status, output, errors = runs.watched(
        *options, *rules, *amounts, "train.py", "--max-steps", "9"
    )

    assert status == 10
    assert errors == (
        "['train.py', '--max-steps', '9']\n"
        "flatline: --fail-on critical: holds\nflatline: --fail-on born-dead: holds\n"
    )
    report = json.loads(output)
    assert report["schema"] == "flatline/1"
    assert report["run"]["name"] == "by hand"
    assert (report["run"]["steps"], report["run"]["status"]) == (20, "finished")
    assert report["run"]["overhead"]["budget"] == 0.5
    assert report["sites"][0]["states"]["dead"] == 8
    assert (len(report["units"]), report["units_truncated"]) == (3, 8)
    assert not (runs.folder / ".flatline").exists()
    again = reported(runs, "by hand", "--store", "kept/my runs.db", "--units", "3")
    assert again == report


def test_two_runs_at_once_share_a_store(runs):
    runs.write("one.py", WHOLE)
    runs.write("two.py", WHOLE)
    command = (*runs.flatline, "run", "--quiet")
    with runs.started(*command, "one.py") as one, runs.started(*command, "two.py") as two:
        for process in (one, two):
            assert process.communicate(timeout=60)[1] == ""
            assert process.returncode == 0

    status, output, _ = runs.run(*runs.flatline, "runs", "--json", "-")
    listed = json.loads(output)
    assert (status, {run["name"] for run in listed}) == (0, {"one", "two"})
    assert {(run["status"], run["steps"]) for run in listed} == {("finished", 30)}
    shown = runs.run(*runs.flatline, "runs")[1].splitlines()
    assert [line.split()[:3] for line in shown[1:]] == [
        [run["id"], run["name"], "finished"] for run in listed
    ]
    for key in (listed[1]["id"], listed[1]["id"][:7], listed[1]["name"]):
        assert reported(runs, key)["run"]["id"] == listed[1]["id"]
    assert reported(runs)["run"]["id"] == listed[0]["id"]


def test_examine(runs):
    runs.write(
        "models.py",
        """
        import torch
        from torch import nn
        import flatline

        def half_dead():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
            with torch.no_grad():
                model[0].bias[8:] = -1e3
            print("building")
            batches = [(torch.randn(64, 8), torch.randn(64, 1))] * 8
            return flatline.Case(model, batches, nn.MSELoss())
        """,
    )
    status, output, errors = runs.run(
        *runs.flatline, "examine", "models.py:half_dead", "--json", "-"
    )

    report = json.loads(output)
    assert (status, errors) == (0, "building\n")
    assert (report["kind"], report["run"]["steps"]) == ("examination", 0)
    assert [unit["unit"] for unit in report["units"] if unit["state"] == "dead"] == [*range(8, 16)]
    assert report["units"][-1]["examples"] == 512


UNSEEN = {
    "hand-written optimizer": (
        """
        for loss in (model(torch.randn(4, 8)).square().mean() for _ in range(3)):
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.01 * parameter.grad
        """,
        "gradients were computed and no torch.optim.Optimizer took a step",
    ),
    "no module": (
        """
        weight = torch.zeros(8, 1, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(3):
            (torch.relu(torch.randn(4, 8) @ weight) - 1).square().mean().backward()
            optimizer.step()
        """,
        "what the optimizer updates belongs to no nn.Module",
    ),
    "no training": ("model(torch.randn(4, 8))", "neither backward() nor a torch.optim.Optimizer"),
}


@pytest.mark.parametrize("kind", UNSEEN)
def test_a_program_in_which_nothing_can_be_watched_is_told_why(runs, kind):
    source, why = UNSEEN[kind]
    prelude = "import torch\nmodel = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())\n"
    runs.write("train.py", prelude + textwrap.dedent(source))

    status, output, errors = runs.watched("--fail-on", "dead>5%", "train.py")

    assert (status, output) == (0, "")
    assert errors.startswith("UNKNOWN  Nothing to judge")
    assert why in " ".join(errors.split())
    assert errors.endswith(
        "flatline: expected units to judge by --fail-on, found that none was watched; "
        "flatline report says why\n"
    )
    assert max(map(len, errors.splitlines()[:-1])) <= 80
