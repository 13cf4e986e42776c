"""What the commands accept, refuse, write and return."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from flatline.diagnose.thresholds import Thresholds
from flatline.launch import cli
from flatline.record.store import Store

COMMAND = cli.flatline.commands
HEAVY = {"torch", "numpy", "scipy", "rich", "jinja2", "sqlite3"}
COMMANDS = ["run", "report", "explain", "runs", "examine", "lab"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_is_short_and_light(twice, command):
    script = (
        "import sys\nfrom flatline.launch.cli import main\n"
        f"sys.argv = ['flatline', *{command!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code\n"
        f"assert not {HEAVY!r} & set(sys.modules), {HEAVY!r} & set(sys.modules)\n"
    )
    status, output, errors = twice.run("-c", script, env={"COLUMNS": "200"})

    assert (status, errors) == (0, "")
    assert max(map(len, output.splitlines())) <= 80
    assert "Example: flatline " in output
    assert len(output.splitlines()) <= 32


@pytest.mark.parametrize(
    ("command", "written"),
    [
        *((name, "report") for name in ("run", "report", "examine")),
        ("explain", "story"),
        ("runs", "list"),
        ("compare", "comparison"),
        ("trial", "result"),
    ],
)
def test_help_names_what_the_command_writes_and_prints(command, written):
    said = {option.name: getattr(option, "help", None) for option in COMMAND[command].params}
    assert said["json"] == f"Write the {written} as JSON (- for standard output)."
    assert said.get("html") in {None, f"Write the {written} as a web page."}
    assert said["quiet"] == f"Print no {written}, only what went wrong."


def test_an_interrupt_while_the_commands_are_loaded_ends_without_a_traceback(twice):
    """The package that all commands need is one that is interrupted while it is loaded."""
    twice.write("early/click.py", "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(twice.folder / "early"), twice.env["PYTHONPATH"]])

    with twice.started(*twice.flatline, "--help", env={"PYTHONPATH": path}) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, "", "")


def test_help_is_quick(twice):
    def processor_seconds():
        before = os.times()
        twice.run(*twice.flatline, "--help")
        after = os.times()
        return (after.children_user + after.children_system) - (
            before.children_user + before.children_system
        )

    assert min(processor_seconds() for _ in range(5)) <= 0.25


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["rnu", "x"], "expected a command, found 'rnu'; did you mean run?", id="slip"),
        pytest.param(["a.py"], "found 'a.py'; write: flatline run a.py", id="script"),
        pytest.param(["run"], "expected a script or -m MODULE, found neither", id="nothing"),
        pytest.param(["run", "-m"], "expected a script or -m MODULE, found neither", id="-m alone"),
        pytest.param(
            ["run", "--htlm", "x", "a.py"], "found '--htlm'; did you mean --html?", id="option"
        ),
        pytest.param(["examine"], "expected TARGET, found nothing", id="no target"),
        pytest.param(["run", "--store"], "'--store' requires an argument", id="no value"),
        pytest.param(["run", "trian.py"], "no such file; did you mean train.py?", id="missing"),
        pytest.param(["run", "python", "train.py"], "leave python out", id="python"),
        pytest.param(["run", "pkg.train"], "flatline run -m pkg.train", id="module without -m"),
        pytest.param(["run", "-m", "no_such"], "no module named 'no_such'", id="missing module"),
        pytest.param(["run", "-m", "train.py"], None, id="-m with a file"),
        pytest.param(["run", "empty"], "directory 'empty' without one", id="directory"),
        pytest.param(
            ["run", "--budget", "0", "train.py"],
            "above 0 and at most 100, found '0'",
            id="budget 0",
        ),
        pytest.param(["run", "--budget", "-1", "train.py"], "found '-1'", id="budget -1"),
        pytest.param(["run", "--budget", "100.1", "train.py"], "found '100.1'", id="budget 100.1"),
        pytest.param(["run", "--budget", "nan", "train.py"], "found 'nan'", id="budget nan"),
        pytest.param(["run", "--budget", "x", "train.py"], "found 'x'", id="budget x"),
        pytest.param(
            ["run", "--max-steps", "0", "train.py"],
            "expected a whole number of at least 1, found '0'; write for example --max-steps 100",
            id="steps 0",
        ),
        pytest.param(
            ["trial", "--jobs", "0", "train.py"],
            f"found '0'; write for example --jobs {os.cpu_count() or 1}\n",
            id="no jobs",
        ),
        pytest.param(
            ["run", "--max-steps", "9" * 5000, "train.py"],
            "expected a whole number of at most 18 digits, found one of 5000",
            id="steps past counting",
        ),
        pytest.param(
            ["run", "--seed-offset", "1" + "0" * 23, "train.py"], "found one of 24", id="seed"
        ),
        pytest.param(["report", "--units", "few"], "at least 0, found 'few'", id="units"),
        pytest.param(
            ["run", "--html", "no/such/dir.html", "train.py"],
            "existing directory",
            id="html directory missing",
        ),
        pytest.param(["run", "--html", "empty", "train.py"], "found the directory", id="html dir"),
        pytest.param(["run", "--html", "-", "train.py"], "only --json", id="html to stdout"),
        pytest.param(["examine", "train.py"], "add the function's name", id="no factory"),
        pytest.param(["examine", "nope.py:f"], "found no file 'nope.py'", id="no file"),
        pytest.param(["examine", "nope:f"], "found no module named 'nope'", id="no module"),
        pytest.param(["examine", "hf:gpt2"], "not supported yet", id="hf"),
    ],
)
def test_refuses_in_one_sentence(twice, arguments, sentence):
    twice.write("train.py", "raise SystemExit('must not run')")
    (twice.folder / "empty").mkdir()

    status, output, errors = twice.run(*twice.flatline, *arguments)

    if sentence is None:  # python itself runs `-m train.py` as a package's module
        return
    assert (status, output) == (2, "")
    assert sentence in errors
    assert errors.startswith("flatline: ")
    assert "Traceback" not in errors
    assert twice.calls() == []


def test_a_file_taken_for_a_directory(twice):
    twice.write("train.py", "")
    status, _, errors = twice.watched("train.py/x.py")
    assert status == 2
    assert "not a directory" in errors


@pytest.mark.parametrize(
    ("rules", "status", "said"),
    [
        pytest.param(["dead>5%"], 10, "--fail-on dead>5%: holds", id="share"),
        pytest.param(["dead>7%"], 0, "", id="share reached, not exceeded"),
        pytest.param(["critical"], 0, "", id="severity"),
        pytest.param(["critical", "dying-relu"], 10, "--fail-on dying-relu: holds", id="second"),
        pytest.param(["dead>5%", "daed>1%"], 2, "did you mean dead>5%?", id="slip"),
        pytest.param(["dead>100%"], 2, "can never hold", id="never holds"),
        pytest.param(["dead"], 2, "write for example 'dead>5%', in quotes", id="eaten by a shell"),
        pytest.param([""], 2, "expected a rule", id="empty"),
    ],
)
def test_fail_on(twice, rules, status, said):
    twice.write("torch.py", "")
    twice.write("train.py", "import torch; print('ran')")

    options = [word for rule in rules for word in ("--fail-on", rule)]
    done, output, errors = twice.watched("--quiet", *options, "train.py")

    assert done == status
    assert errors.removesuffix("\n") == (f"flatline: {said}" if status == 10 else errors.strip())
    assert said in errors
    assert (output == "") == (status == 2)


@pytest.mark.parametrize(("source", "status"), [("1 / 0", 1), ("raise SystemExit(3)", 3)])
def test_fail_on_never_hides_the_programs_own_status(twice, source, status):
    twice.write("torch.py", "")
    twice.write("train.py", "import torch\n" + source)

    assert twice.watched("--fail-on", "dead>5%", "train.py")[0] == status


def test_store_is_opened_before_the_program_starts(twice):
    twice.write("train.py", "print('started')")

    status, output, errors = twice.watched(
        "train.py", env={"FAKE_STORE_ERROR": "expected a store, found a song; name another file"}
    )

    assert (status, output) == (2, "")
    assert errors == "flatline: expected a store, found a song; name another file\n"


def test_session_gets_the_options(twice):
    twice.write("train.py", "")
    twice.watched(
        "--name",
        "n",
        "--budget",
        "2.5%",
        "--max-steps",
        "7",
        "--store",
        "s.db",
        "--quiet",
        "train.py",
        "--name",
        "its own",
    )

    assert twice.calls()[0][1] == {
        "store_path": str(twice.folder / "s.db"),
        "name": "n",
        "budget": "0.025",
        "max_steps": "7",
        "argv": "['train.py', '--name', 'its own']",
        "quiet": "True",
        "units": "10000",
        "named_store": str(twice.folder / "s.db"),
        "thresholds": str(Thresholds()),
        "treatments": "()",
    }


@pytest.mark.parametrize(
    ("source", "status", "word"),
    [
        ("", 0, "finished"),
        ("raise SystemExit(3)", 3, "failed"),
        ("raise SystemExit(0)", 0, "finished"),
        ("1 / 0", 1, "failed"),
        ("raise KeyboardInterrupt", -2, "interrupted"),
        ("from flatline.session import StopTraining\nraise StopTraining", 0, "finished"),
    ],
)
def test_every_ending_leaves_a_report(twice, source, status, word):
    twice.write("torch.py", "")
    twice.write("train.py", "import torch\n" + source)

    plain = twice.run("train.py")
    ours = twice.watched("--json", "r.json", "train.py")

    assert ours[0] == status
    expected = "" if "StopTraining" in source else plain[2]
    assert ours[2] == f"{expected}REPORT {word}\nflatline: wrote {twice.folder / 'r.json'}\n"
    assert json.loads((twice.folder / "r.json").read_text())["run"]["status"] == word
    assert twice.calls()[-1] == ["finish", word]


def test_report_comes_after_everything_of_the_program(twice):
    twice.write("torch.py", "")
    twice.write(
        "train.py",
        """
        import atexit, os, threading, time, torch
        atexit.register(os.write, 2, b"atexit\\n")
        threading.Thread(target=lambda: (time.sleep(0.2), os.write(2, b"thread\\n"))).start()
        os.chdir("/")
        """,
    )
    for options in ([], ["--html", "page.html"]):
        errors = twice.watched(*options, "train.py")[2]
        assert errors.splitlines()[:3] == ["thread", "atexit", "REPORT finished"]
    assert (twice.folder / "page.html").exists()


def test_json_on_standard_output_alone(twice):
    twice.write("torch.py", "")
    twice.write(
        "train.py",
        """
        import os, subprocess, sys, torch
        print("python")
        sys.stdout.flush()
        os.write(1, b"descriptor\\n")
        subprocess.run(["echo", "child"])
        print("last words")
        """,
    )
    status, output, errors = twice.watched("--json", "-", "train.py")

    assert status == 0
    assert json.loads(output)["schema"] == "flatline/1"
    assert errors == "python\ndescriptor\nchild\nlast words\nREPORT finished\n"


def test_program_that_never_imports_torch(twice):
    twice.write("train.py", "print('hello')")

    status, output, errors = twice.watched("train.py")

    assert (status, output) == (0, "hello\n")
    assert errors == (
        "flatline: expected a program that trains with PyTorch, found one that ended without "
        "importing torch; nothing was watched\n"
    )


def test_errors_inside_flatline_leave_the_program_alone(twice):
    twice.write("torch.py", "")
    twice.write("train.py", "import torch; print('trained')")

    status, output, errors = twice.watched("train.py", env={"FAKE_ATTACH_ERROR": "1"})
    assert (status, output) == (0, "trained\n")
    assert "it runs unwatched" in errors

    status, output, errors = twice.watched("train.py", env={"FAKE_FINISH_ERROR": "1"})
    assert (status, output) == (0, "trained\n")
    assert "what was seen is stored: flatline report" in errors
    assert "Traceback" not in errors


def test_local_files_do_not_stand_in_for_flatlines_imports(twice):
    twice.write("rich.py", "raise ImportError('a local file called rich.py')")
    twice.write("torch.py", "")
    twice.write("train.py", "import torch")

    assert twice.watched("train.py")[2] == "REPORT finished\n"


def test_output_that_cannot_be_written_at_the_end(twice):
    twice.write("torch.py", "")
    twice.write("train.py", "import os, torch; os.rmdir('gone')")
    (twice.folder / "gone").mkdir()

    status, _, errors = twice.watched("--html", "gone/page.html", "train.py")

    assert status == 2
    assert "gone/page.html': No such file or directory; give another path" in errors
    assert "what was seen is stored: flatline report" in errors


STREAMS = {
    "output closed": (">&-", 0, ""),
    "output closed, JSON": ("--json - >&-", 2, "standard output for --json -, found it closed"),
    "output full, JSON": ("--json - >/dev/full", 2, "standard output, found: No space left"),
    "errors closed": ("2>&-", 0, ""),
    "input closed": ("<&-", 0, ""),
}


@pytest.mark.parametrize("streams", STREAMS)
def test_streams_that_take_nothing(twice, streams):
    redirection, status, said = STREAMS[streams]
    option, _, redirection = redirection.rpartition(" ")
    twice.write("torch.py", "")
    twice.write("train.py", "import torch")

    done = subprocess.run(
        f"{twice.shell} run --quiet {option} train.py {redirection}",
        shell=True,
        cwd=twice.folder,
        env=twice.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", ["", "--html page.html --fail-on 'dead>5%'"])
def test_what_standard_error_does_not_take_goes_nowhere(twice, options):
    twice.write("torch.py", "")
    twice.write("train.py", "import torch; print('out')")

    done = subprocess.run(
        f"{twice.shell} run {options} train.py 2>&-",
        shell=True,
        cwd=twice.folder,
        env=twice.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stdout) == (10 if options else 0, "out\n")


@pytest.mark.parametrize("command", [["--help"], ["runs", "--help"], ["runs", "--json", "-"]])
@pytest.mark.parametrize("target", ["/dev/full", "&-"])
def test_output_that_takes_nothing(twice, command, target):
    Store(twice.folder / ".flatline" / "runs.db").close()
    done = subprocess.run(
        f"{twice.shell} {' '.join(command)} >{target}",
        shell=True,
        cwd=twice.folder,
        env=twice.env,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    if target == "/dev/full":
        assert done.returncode == 2
        assert "found: No space left on device" in done.stderr


def test_working_directory_that_is_gone(twice):
    script = twice.write("train.py", "print(__file__)")
    command = f"mkdir gone; cd gone; rmdir ../gone; {twice.shell} run"
    for options, status in ((f"--store {twice.folder / 's.db'}", 0), ("", 2)):
        done = subprocess.run(
            f"{command} {options} {script}",
            shell=True,
            cwd=twice.folder,
            env=twice.env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == (f"{script}\n" if status == 0 else "")


def test_number_of_units_in_the_json(twice):
    twice.write("torch.py", "")
    twice.write("train.py", "import torch")

    twice.watched("--units", "3", "--json", "r.json", "train.py")
    _, output, _ = twice.watched("--units", "4", "--json", "-", "train.py")

    assert len(json.loads((twice.folder / "r.json").read_text())["units"]) == 3
    assert len(json.loads(output)["units"]) == 4


@pytest.fixture
def stored(twice):
    """Two runs in the default store; the first has failed."""
    with Store(twice.folder / ".flatline" / "runs.db") as store:
        for name, status in (("first", "failed"), ("second", "finished")):
            writer = store.create_run({"name": name})
            writer.close(status)
    return twice


def test_report_of_a_stored_run(stored):
    assert stored.run(*stored.flatline, "report") == (0, "REPORT finished\n", "")
    assert stored.run(*stored.flatline, "report", "first")[1] == "REPORT failed\n"
    assert stored.run(*stored.flatline, "report", "--quiet")[1] == ""

    status, output, _ = stored.run(*stored.flatline, "report", "first", "--json", "-", "--units=2")
    assert (status, len(json.loads(output)["units"])) == (0, 2)

    status, output, _ = stored.run(
        *stored.flatline, "report", "--html", "r.html", "--json", "r.json"
    )
    assert (status, output) == (0, "REPORT finished\n")
    assert json.loads((stored.folder / "r.json").read_text())["run"]["status"] == "finished"
    assert (stored.folder / "r.html").read_text() == "<html>"


def test_list_of_stored_runs(stored):
    assert stored.run(*stored.flatline, "runs")[1] == "RUN second finished\nRUN first failed\n"

    status, output, errors = stored.run(*stored.flatline, "runs", "--json", "-")
    assert (status, errors) == (0, "")
    assert [run["name"] for run in json.loads(output)] == ["second", "first"]
    stored.run(*stored.flatline, "runs", "--quiet", "--json", "runs.json")
    assert json.loads((stored.folder / "runs.json").read_text()) == json.loads(output)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["report", "frist"], "first", id="slip in a name"),
        pytest.param(["report", "--store", "none.db"], "found no file", id="no store"),
        pytest.param(["runs", "--store", "none.db"], "found no file", id="no store to list"),
        pytest.param(["runs", "--store", "song.db"], "song.db", id="no database"),
    ],
)
def test_stores_and_runs_that_are_not_there(stored, arguments, sentence):
    stored.write("song.db", "la la la")

    status, output, errors = stored.run(*stored.flatline, *arguments)

    assert (status, output) == (2, "")
    assert errors.startswith("flatline: expected ")
    assert errors.count("\n") == 1
    assert sentence in errors
    assert not (stored.folder / "none.db").exists()


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        pytest.param({}, False, id="no terminal"),
        pytest.param({"FORCE_COLOR": "1"}, True, id="FORCE_COLOR"),
        pytest.param({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, id="NO_COLOR wins"),
    ],
)
def test_colour(stored, env, coloured):
    stored.write("torch.py", "")
    stored.write("train.py", "import torch; print('plain')")
    env = {"FAKE_COLOUR": "1", "TERM": "xterm", **env}

    assert ("\x1b[1;31m" in stored.run(*stored.flatline, "report", env=env)[1]) == coloured
    _, output, errors = stored.watched("train.py", env=env)
    assert output == "plain\n"
    assert ("\x1b[1;31m" in errors) == coloured


def test_terminal_that_cannot_show_every_letter(stored):
    env = {"PYTHONIOENCODING": "ascii", "FAKE_COLOUR": "☠"}

    assert stored.run(*stored.flatline, "report", env=env) == (0, "? REPORT finished\n", "")


CASES = """
from flatline.api import Case
def good():
    return Case()
def other():
    return 3
def fails():
    raise ValueError("mine")
def leaves():
    raise SystemExit("left")
number = 3
"""


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        pytest.param("models.py:good", 0, "", id="file"),
        pytest.param("pkg.models:good", 0, "", id="module"),
        pytest.param("./pkg/models.py:good", 0, "", id="path"),
        pytest.param("models.py:goof", 2, "did you mean good?", id="slip"),
        pytest.param("models.py:number", 2, "found a int", id="no function"),
        pytest.param("models.py:other", 2, "flatline.Case, found int", id="no case"),
        pytest.param("models.py:fails", 2, "raised ValueError", id="raises"),
        pytest.param("models.py:leaves", 2, "raised SystemExit", id="exits"),
        pytest.param("broken.py:f", 2, "raised SyntaxError", id="syntax"),
    ],
)
def test_examine(twice, target, status, message):
    twice.write("models.py", CASES)
    twice.write("pkg/models.py", CASES)
    twice.write("broken.py", "f(\n")

    done, output, errors = twice.run(*twice.flatline, "examine", target)

    assert done == status
    assert message in errors
    assert ("REPORT" in output) == (status == 0)
    assert "launch" not in errors
    if "fails" in target:
        assert 'raise ValueError("mine")' in errors


def test_examine_json(twice):
    twice.write("models.py", "print('loading')" + CASES)

    status, output, errors = twice.run(*twice.flatline, "examine", "models.py:good", "--json", "-")

    assert status == 0
    assert json.loads(output)["schema"] == "flatline/1"
    assert errors == "loading\n"


def test_version(twice):
    assert twice.run(*twice.flatline, "--version") == (0, "flatline 0.1.0\n", "")


def test_reader_that_goes_away(twice):
    twice.write("models.py", CASES)
    done = subprocess.run(
        f"{twice.shell} examine models.py:good | true",
        shell=True,
        cwd=twice.folder,
        env=twice.env,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
