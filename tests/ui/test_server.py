"""``flatline ui`` as a process: its port, its words, its end."""

from __future__ import annotations

import errno
import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

import recordings
import stored
from flatline.record.store import Store
from flatline.ui.server import TRIES, UsageError, listen
from serving import COMMAND, environment, served


@contextmanager
def asked(port: int, path: str) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            yield answer


def refused(*options: str, code: str = "") -> tuple[int, str]:
    command = [sys.executable, "-c", code] if code else COMMAND
    done = subprocess.run(
        [*command, "ui", *options], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_port_in_use_makes_it_take_the_next_and_say_so(tmp_path):
    store = Store(tmp_path / ".flatline" / "runs.db")
    run = stored.put(store, recordings.tiny())
    with closing(listen(20_000)) as taken:
        port = taken.getsockname()[1]
        with served(tmp_path, "--port", str(port)) as server:
            assert server.port > port
            assert server.said == [
                f"flatline: port {port} is in use; taking {server.port}\n",
                f"flatline: the runs of .flatline/runs.db are shown at {server.address}/ "
                "(Ctrl-C ends it)\n",
            ]
            with asked(server.port, "/") as page:
                assert page.status == 200
                assert run in page.read().decode()


def test_only_this_machine_reaches_it(tmp_path):
    with served(tmp_path, "--port", "0") as server:
        with asked(server.port, "/") as page:
            assert page.status == 503  # there is no store yet
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as outward:
            outward.connect(("192.0.2.1", 9))  # sends nothing, and tells our address on the net
            (own, _) = outward.getsockname()
        if own.startswith("127."):
            pytest.skip("this machine has no address but its loopback")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((own, server.port), timeout=10).close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly_even_while_a_page_listens(tmp_path, how):
    Store(tmp_path / ".flatline" / "runs.db")
    with served(tmp_path, "--port", "0") as server:
        with asked(server.port, "/events") as stream:
            assert stream.readline() == b"retry: 1000\n"
            status, said = server.end(how)
            stream.read()  # which has an end now
        assert status == (0 if how == signal.SIGINT else -signal.SIGTERM)
        assert said == ""


def test_ports_are_tried_one_after_the_other_up_to_the_last():
    with closing(listen(0)) as first, closing(listen(0)):
        assert first.getsockname()[0] == "127.0.0.1"
        with closing(listen(first.getsockname()[1])) as second:
            assert second.getsockname()[1] > first.getsockname()[1]


def test_no_free_port_is_an_error_that_says_so(monkeypatch):
    with closing(listen(65_535)), pytest.raises(UsageError, match=r"65535 to 65535 to be free"):
        listen(65_535)
    assert TRIES > 1


def test_a_port_that_needs_more_rights_is_not_called_taken_and_no_other_is(monkeypatch):
    tried = []

    class Guarded(socket.socket):  # as Linux guards ports below 1024 from who is not root
        def bind(self, address):
            tried.append(address[1])
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Guarded)
    with pytest.raises(UsageError, match=r"found 80: Permission denied; name one from 1024 on"):
        listen(80)
    assert tried == [80]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--port", "70000"], "expected a port up to 65535, found 70000"),
        (["--port", "http"], "expected a whole number of at least 0, found 'http'"),
        (["--prt", "1"], "did you mean --port?"),
    ],
)
def test_a_wrong_option_is_a_usage_error(options, sentence):
    status, said = refused(*options)
    assert status == 2
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_its_packages_it_says_what_to_install(missing):
    code = (
        f"import sys\nsys.modules[{missing!r}] = None\nfrom flatline.launch.cli import main\nmain()"
    )
    status, said = refused(code=code)
    assert status == 2
    assert said == (
        f"flatline: expected the packages of the live page, found no {missing}; "
        "write: pip install 'flatline[ui]'\n"
    )
