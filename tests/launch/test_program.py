"""A program under ``flatline run`` does what it does under plain python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile

import pytest

PROBE = """
import json, os, sys
main = sys.modules["__main__"]
print(json.dumps({
    "argv": sys.argv, "name": __name__, "file": __file__, "cwd": os.getcwd(), "path": sys.path,
    "package": __package__, "spec": repr(__spec__) and getattr(__spec__, "name", None),
    "origin": getattr(__spec__, "origin", None),
    "loader": [type(__loader__).__name__, getattr(__loader__, "name", None)],
    "cached": __cached__, "is_main": main.__dict__ is globals(), "doc": __doc__,
    "names": sorted(n for n in globals() if n.startswith("__")),
    "builtins": __builtins__ is sys.modules["builtins"],
    "annotations": __annotations__,
    "hook": sys.excepthook is sys.__excepthook__,
    "flags": repr(sys.flags), "warnoptions": sys.warnoptions,
    "xoptions": {key: str(value) for key, value in sys._xoptions.items()},
    "torch": "torch" in sys.modules, "numpy": "numpy" in sys.modules,
}, indent=1))
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["probe.py"], id="script"),
        pytest.param(["probe.py", "--html", "x", "-m", "--help", "--", "-"], id="its own options"),
        pytest.param(["./probe.py", ""], id="dotted"),
        pytest.param(["pkg/../probe.py"], id="unnormalised"),
        pytest.param(["link.py"], id="symlink"),
        pytest.param(["-m", "probe", "--html", "x"], id="module"),
        pytest.param(["-m", "pkg", "-v"], id="package"),
        pytest.param(["-m", "pkg.probe", "--", "--quiet"], id="module of a package"),
        pytest.param(["pkg"], id="directory"),
        pytest.param(["./pkg/", "a"], id="directory with slash"),
        pytest.param(["probe.zip", "a"], id="zip file"),
    ],
)
def test_sees_the_same(twice_each, command):
    twice = twice_each
    for name in ("probe.py", "pkg/probe.py", "pkg/__main__.py", "real/probe.py"):
        twice.write(name, PROBE)
    twice.write("pkg/__init__.py", "")
    (twice.folder / "link.py").symlink_to("real/probe.py")
    with zipfile.ZipFile(twice.folder / "probe.zip", "w") as archive:
        archive.writestr("__main__.py", PROBE)

    status, output, errors = twice.same(*command)

    assert (status, errors) == (0, "")
    assert '"is_main": true' in output
    assert '"torch": false' in output


def test_from_another_directory(twice):
    twice.write("probe.py", PROBE)
    (twice.folder / "elsewhere").mkdir()

    twice.same("../probe.py", cwd="elsewhere")
    twice.same(str(twice.folder / "probe.py"), cwd="elsewhere")


def test_double_dash_before_the_script(twice):
    twice.write("probe.py", PROBE)

    assert twice.watched("--quiet", "--", "probe.py", "--", "x") == twice.run("probe.py", "--", "x")


@pytest.mark.parametrize(
    ("python", "env"),
    [
        pytest.param(("-W", "error"), {}, id="-W error"),
        pytest.param(("-X", "dev", "-W", "ignore"), {}, id="-X dev"),
        pytest.param(("-X", "faulthandler", "-u"), {}, id="-X faulthandler"),
        pytest.param(("-O",), {}, id="-O"),
        pytest.param(("-P",), {}, id="-P"),
        pytest.param((), {"PYTHONSAFEPATH": "1"}, id="PYTHONSAFEPATH"),
        pytest.param((), {"PYTHONWARNINGS": "error", "PYTHONHASHSEED": "3"}, id="PYTHONWARNINGS"),
    ],
)
def test_interpreter_options_are_inherited(twice, python, env):
    twice.write("probe.py", PROBE)
    twice.write("directory/__main__.py", PROBE)

    assert twice.same("probe.py", python=python, env=env)[0] == 0
    assert twice.same("directory", python=python, env=env)[0] == 0


ENDINGS = {
    "returns": "print('done')",
    "exit": "import sys; sys.exit()",
    "exit 0": "import sys; sys.exit(0)",
    "exit 3": "import sys; sys.exit(3)",
    "exit -1": "import sys; sys.exit(-1)",
    "exit text": "import sys; sys.exit('böse: no data')",
    "exit object": "import sys; sys.exit([1, {}])",
    "exit false": "import sys; sys.exit(False)",
    "exit at once": "import os; print('lost'); os._exit(7)",
    "exit in a thread": """
        import sys, threading
        thread = threading.Thread(target=sys.exit, args=(5,)); thread.start(); thread.join()
        """,
    "error in a thread": """
        import threading
        thread = threading.Thread(target=lambda: 1 / 0, name="t"); thread.start(); thread.join()
        """,
    "abort": "import os; os.abort()",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
    "interrupted": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
    "interrupted by hand": "raise KeyboardInterrupt",
    "error": "def f():\n    raise ValueError('x')\nf()",
    "chained error": """
        def f():
            try:
                {}["a"]
            except KeyError as error:
                raise ValueError("x") from error
        try:
            f()
        except ValueError:
            1 / 0
        """,
    "error group": "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])",
    "error with note": "e = ValueError('x'); e.add_note('look here'); raise e",
    "error while importing": "import broken",
    "missing import": "import not_there_at_all",
    "own hook": """
        import sys
        def hook(kind, value, trace):
            print(kind, value, trace.tb_lineno, trace.tb_next)
            print(sys.excepthook is hook)
        sys.excepthook = hook
        1 / 0
        """,
    "own hook fails": """
        import sys
        def hook(*args):
            raise KeyError("hook")
        sys.excepthook = hook
        1 / 0
        """,
    "own hook exits": """
        import sys
        sys.excepthook = lambda *args: sys.exit(9)
        1 / 0
        """,
    "no hook": "import sys; del sys.excepthook; sys.exit(4)",
    "last error": """
        import atexit, sys, traceback
        atexit.register(lambda: traceback.print_tb(sys.last_traceback, file=sys.stdout))
        1 / 0
        """,
    "deep recursion": """
        def f(n):
            return f(n + 1)
        try:
            f(0)
        except RecursionError as error:
            print("deep", error)
        """,
    "atexit": """
        import atexit, sys
        atexit.register(print, "first"); atexit.register(print, "second", file=sys.stderr)
        """,
    "atexit after an error": "import atexit; atexit.register(print, 'bye'); 1 / 0",
    "atexit fails": """
        import atexit
        atexit.register(print, "still")
        atexit.register(lambda: 1 / 0)
        """,
    "atexit exits": "import atexit, sys; atexit.register(sys.exit, 3); print('x')",
    "threads at the end": """
        import atexit, threading, time
        atexit.register(print, "atexit")
        def work():
            time.sleep(0.2)
            print("thread is done")
        threading.Thread(target=work).start()
        print("main is done")
        """,
    "threads after an error": """
        import threading, time
        def work():
            time.sleep(0.2)
            print("thread is done", flush=True)
        threading.Thread(target=work).start()
        raise ValueError
        """,
    "pool left open": """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)
        print(list(pool.map(abs, [-1, -2])))
        """,
    "closed stderr": "import sys; sys.stderr.close(); print('x')",
    "closed stdout": "import sys; sys.stdout.close()",
    "replaced streams": "import io, sys; sys.stdout = io.StringIO(); print('hidden')",
    "unraisable": "class A:\n    def __del__(self):\n        1 / 0\na = A()\ndel a",
    "forks": """
        import os
        pid = os.fork()
        if pid:
            print("parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        else:
            print("child")
        """,
    "forked child fails": """
        import os
        pid = os.fork()
        if pid:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        else:
            raise ValueError("in the child")
        """,
    "file left open": """
        file = open("left.txt", "w")
        file.write("never flushed by hand")
        """,
    "pickles": """
        import pickle
        class Thing:
            def __eq__(self, other):
                return type(self) is type(other)
        def helper():
            pass
        assert pickle.loads(pickle.dumps(Thing())) == Thing()
        assert pickle.loads(pickle.dumps(helper)) is helper
        print(pickle.dumps(Thing()))
        """,
    "reads its source": """
        import inspect, sys
        def f():
            return 1
        class C:
            x = 1
        print(inspect.getsource(f), inspect.getsource(C), inspect.getsourcefile(f))
        print(open(__file__).read() == inspect.getsource(sys.modules["__main__"]))
        """,
    "type hints": """
        import dataclasses, typing
        @dataclasses.dataclass
        class Config:
            rate: "float" = 1.0
        print(typing.get_type_hints(Config), Config(), Config.__module__)
        """,
    "warns": """
        import warnings
        warnings.warn("plain")
        def f():
            warnings.warn("caller", DeprecationWarning, stacklevel=2)
        f()
        """,
    "annotated": "x: int = 1\nprint(__annotations__)",
    "no future flags": """
        def f(x: print):
            pass
        print(f.__annotations__)
        """,
    "asyncio": """
        import asyncio
        async def main():
            await asyncio.sleep(0)
            raise ValueError("in a task")
        asyncio.run(main())
        """,
    "logging": """
        import logging
        logging.basicConfig(level=logging.INFO)
        logging.info("hello")
        logging.getLogger("a").warning("there")
        """,
    "click program": """
        import click
        @click.command()
        @click.option("--lr", type=float)
        def main(lr):
            raise click.UsageError("mine")
        main(["--lr", "1"], standalone_mode=False)
        """,
    "faulthandler": """
        import faulthandler, signal, sys
        print(faulthandler.is_enabled(), signal.getsignal(signal.SIGINT), signal.getsignal(15))
        """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_ends_the_same(twice, ending):
    twice.write("broken.py", "def g():\n    1 / 0\ng()\n")
    twice.write("program.py", ENDINGS[ending])

    twice.same("program.py")


@pytest.mark.parametrize("ending", ["error", "interrupted", "exit 3", "chained error"])
def test_modules_end_the_same(twice_each, ending):
    twice_each.write("program.py", ENDINGS[ending])
    twice_each.write("pkg/__main__.py", ENDINGS[ending])

    twice_each.same("-m", "program")
    twice_each.same("pkg")


@pytest.mark.parametrize("ending", ["error", "interrupted", "exit text", "atexit", "own hook"])
def test_scripts_end_the_same_with_status_at_stake(twice_each, ending):
    twice_each.write("program.py", ENDINGS[ending])

    plain = twice_each.run("program.py")
    ours = twice_each.watched("--quiet", "--html", "page.html", "program.py")

    assert ours == plain
    assert (twice_each.folder / "page.html").exists()


@pytest.mark.parametrize(
    "ending", ["atexit fails", "threads at the end", "file left open", "forks", "pool left open"]
)
def test_orderly_end_with_status_at_stake(twice, ending):
    twice.write("program.py", ENDINGS[ending])

    plain = twice.run("program.py")
    assert twice.watched("--quiet", "--html", "page.html", "program.py") == plain
    assert [call[0] for call in twice.calls()] == ["session", "finish"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(b"x = (\n", id="unclosed"),
        pytest.param(b"def f():\nreturn 1\n", id="indentation"),
        pytest.param(b"if 1:\n\tx\n        y\n", id="tabs"),
        pytest.param(b"print 1\n", id="python 2"),
        pytest.param(b"x = '\n", id="unterminated"),
        pytest.param(b"return 1\n", id="return outside"),
        pytest.param(b"# -*- coding: latin-1 -*-\nprint('\xe4')\n", id="latin-1 is fine"),
        pytest.param(b"\xef\xbb\xbfprint('bom')\n", id="byte order mark is fine"),
        pytest.param(b"print('crlf')\r\nprint(2)\r\n", id="crlf is fine"),
        pytest.param(b"print('no newline')", id="no newline at the end is fine"),
        pytest.param(b"", id="empty is fine"),
    ],
)
def test_syntax(twice_each, source):
    (twice_each.folder / "program.py").write_bytes(source)

    twice_each.same("program.py")


def test_standard_input_is_passed_through(twice):
    twice.write("program.py", "import sys; print(input('? ')); print(sys.stdin.read())")

    assert "two" in twice.same("program.py", stdin="one\ntwo\nthree")[1]


def test_script_on_standard_input(twice):
    source = "import sys; print(sys.argv, sys.path, sorted(globals()), __loader__, __spec__)\n"

    assert twice.same("-", "a", "--help", stdin=source)[0] == 0
    assert twice.same("-", stdin=source + "print(input())\n1 / 0\n")[0] == 1
    assert twice.same("-", stdin="x = (\n")[0] == 1


@pytest.mark.parametrize("named", [True, False], ids=["named pipe", "process substitution"])
def test_script_that_can_be_read_only_once(twice, named):
    source = "echo 'import sys; print(sys.argv[1:])'"
    feed, target = (f"({source} > pipe) & ", "pipe") if named else ("", f"<({source})")
    os.mkfifo(twice.folder / "pipe")
    done = subprocess.run(
        f"{feed}{twice.shell} run --quiet {target} a",
        shell=True,
        executable="/bin/bash",
        cwd=twice.folder,
        env=twice.env,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "['a']\n", "")


def test_modules_that_cannot_run_fail_as_always(twice):
    twice.write("pkg/__init__.py", "")
    twice.write("pkg/broken.py", "x = (\n")
    twice.write("failing/__init__.py", "1 / 0")
    twice.write("failing/program.py", "")

    for module in ("pkg", "pkg.absent", "pkg.broken", "failing", "failing.program", "json.tool.x"):
        assert twice.same("-m", module)[0] == 1


def test_compiled_script(twice):
    import py_compile

    source = twice.write("source.py", "print(__file__, __cached__, type(__loader__).__name__)")
    py_compile.compile(str(source), cfile=str(twice.folder / "program.pyc"))

    assert twice.same("program.pyc")[0] == 0


CHILDREN = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor

class Thing:
    def __init__(self, x):
        self.x = x
    def __repr__(self):
        return f"Thing({self.x})"

def work(thing):
    return type(thing).__module__, thing, __name__, sys.argv[1:]

if __name__ == "__main__":
    context = multiprocessing.get_context("METHOD")
    with context.Pool(1) as pool:
        print(pool.map(work, [Thing(1), Thing(2)]))
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        print(list(pool.map(work, [Thing(3)])))
    process = context.Process(target=sys.exit, args=(3,))
    process.start(); process.join()
    print(process.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(twice, method):
    twice.write("program.py", CHILDREN.replace("METHOD", method))

    status, output, errors = twice.same("program.py", "--epochs", "3")

    assert (status, errors) == (0, "")
    assert "'__mp_main__'" in output or method == "fork"
    assert [call[0] for call in twice.calls()] == ["session", "finish"]


def test_multiprocessing_imported_early(twice):
    twice.write("program.py", CHILDREN.replace("METHOD", "spawn"))

    assert twice.same("program.py", env={"FAKE_IMPORTS": "multiprocessing"})[0] == 0


def test_multiprocessing_from_a_module(twice):
    twice.write("pkg/__init__.py", "")
    twice.write("pkg/program.py", CHILDREN.replace("METHOD", "spawn"))

    assert twice.same("-m", "pkg.program")[0] == 0


LOADER = """
import torch
from torch.utils.data import DataLoader, Dataset

class Squares(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return torch.tensor(float(index)) ** 2

def collate(items):
    return torch.stack(items)

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        loader = DataLoader(Squares(), 2, num_workers=1, collate_fn=collate,
                            multiprocessing_context=method)
        print(method, [batch.tolist() for batch in loader])
"""


def test_data_loader_workers(twice):
    twice.write("program.py", LOADER)

    status, _, errors = twice.same("program.py")

    assert (status, errors) == (0, "")
    assert [call[0] for call in twice.calls()] == ["session", "attach", "finish"]


@pytest.mark.parametrize("launcher", ["--no-python", "-m"])
def test_torchrun(twice_each, launcher):
    twice_each.write(
        "program.py",
        "import os, sys; os.write(1, f'{os.environ[\"RANK\"]} {sys.argv}\\n'.encode())",
    )
    if launcher == "-m" and twice_each.flatline[0] != "-m":
        pytest.skip("torchrun -m runs a module")
    command = twice_each.flatline
    if launcher == "--no-python":
        command = ["--no-python", sys.executable, *twice_each.flatline]

    status, output, errors = twice_each.run(
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        *command,
        "run",
        "program.py",
        "--lr",
        "1",
    )

    assert status == 0, errors
    assert sorted(output.splitlines()) == [
        "0 ['program.py', '--lr', '1']",
        "1 ['program.py', '--lr', '1']",
    ]
    assert errors.count("without importing torch") == 1


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_from_outside(twice, kind):
    twice.write("program.py", "import time\nprint('ready', flush=True)\ntime.sleep(30)\n")

    results = []
    for command in (["program.py"], [*twice.flatline, "run", "--quiet", "program.py"]):
        with twice.started(*command) as process:
            assert process.stdout.readline() == "ready\n"
            twice.wait_for_sleep(process)  # so that both are hit on the same line
            process.send_signal(kind)
            results.append((*process.communicate(timeout=20), process.returncode))

    assert results[0] == results[1]
    assert results[0][-1] == -kind
    finished = ["finish", "interrupted"] in twice.calls()
    assert finished == (kind == signal.SIGINT)  # the others end a process at once, as always


def test_second_interrupt_ends_the_report(twice):
    twice.write("torch.py", "")
    twice.write(
        "program.py",
        """
        import signal, time, torch
        try:
            print('ready', flush=True)
            time.sleep(30)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, lambda *args: None)
        """,
    )
    command = (*twice.flatline, "run", "program.py")
    with twice.started(*command, env={"FAKE_SLOW_REPORT": "1"}) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "REPORTING\n"
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]  # the report would take longer

    assert errors == "flatline: interrupted; what was seen is stored: flatline report\n"


def test_environment_is_untouched(twice):
    twice.write(
        "program.py",
        """
        import os, subprocess, sys
        environment = {k: v for k, v in os.environ.items() if k != "_"}
        print(sorted(environment.items()))
        print(os.listdir("/proc/self/fd"))
        sys.stdout.flush()
        subprocess.run([sys.executable, "-c", "import os; print(sorted(os.environ))"])
        """,
    )
    twice.same("program.py")


def test_ignored_interrupts_stay_ignored(twice):
    twice.write(
        "program.py",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT);"
        "print(signal.getsignal(signal.SIGINT))",
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert twice.same("program.py")[0] == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_unreadable_output_is_no_worse(twice):
    """A reader that goes away ends the program as always."""
    twice.write("program.py", "for i in range(100000): print(i)")
    statuses = [
        subprocess.run(
            f"{command} program.py | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}",
            shell=True,
            executable="/bin/bash",
            cwd=twice.folder,
            env=twice.env,
            capture_output=True,
            text=True,
        )
        for command in (sys.executable, f"{twice.shell} run --quiet")
    ]
    assert statuses[0].stdout == statuses[1].stdout
    assert statuses[0].stderr == statuses[1].stderr


def test_children_of_os_fork_write_no_report(twice):
    twice.write("torch.py", "")
    twice.write(
        "program.py", "import os, torch\nif os.fork() == 0:\n    raise ValueError\nos.wait()"
    )

    twice.watched("program.py")

    assert [call[0] for call in twice.calls()] == ["session", "attach", "finish"]
    assert os.path.exists(twice.folder / "program.py")
