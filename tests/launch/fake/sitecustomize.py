"""Stands in for what watches, stores and shows: no torch, no store, and a log of every call."""

import json
import os
import sys
import types

LOG = os.environ.get("FAKE_API_LOG")


def log(*call):
    if LOG:
        with open(LOG, "a") as file:
            file.write(json.dumps(call) + "\n")


def write(path, text):
    from flatline.show import plain  # not at the top: a program must be the first to load NumPy

    plain.write(path, text)


class StopTraining(BaseException):
    refused = ""


class Report:
    def __init__(self, status, units=10_000):
        self.status = status
        self.units = units
        self.sites = [{"name": "0", "units": 100, "states": {"dead": 7, "healthy": 93}}]

    def to_dict(self):
        return {
            "schema": "flatline/1",
            "run": {"status": self.status},
            "sites": self.sites,
            "units": [{"site": "0", "unit": unit} for unit in range(7)][: self.units],
            "findings": [{"code": "dying-relu", "severity": "warning"}],
        }

    def to_json(self, path=None):
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        if path is not None:
            write(path, text)
        return text

    def to_html(self, path):
        write(path, "<html>")

    def __rich_console__(self, console, options):
        if os.environ.get("FAKE_SLOW_REPORT"):
            import time

            print("REPORTING", file=sys.stderr, flush=True)
            time.sleep(300)
        letter = os.environ.get("FAKE_COLOUR")
        mark = "" if letter is None else "[red]1[/red] " if letter == "1" else f"{letter} "
        yield f"{mark}REPORT {self.status}"


class Session:
    treated, untreated = False, ""

    def __init__(self, **kwargs):
        self.units = kwargs["units"]
        log("session", {key: str(value) for key, value in kwargs.items()})
        if os.environ.get("FAKE_STORE_ERROR"):
            from flatline.errors import StoreError

            raise StoreError(os.environ["FAKE_STORE_ERROR"])

    def attach(self):
        log("attach", os.getpid())
        if os.environ.get("FAKE_ATTACH_ERROR"):
            raise RuntimeError("attach")

    def finish(self, status):
        log("finish", status)
        if os.environ.get("FAKE_FINISH_ERROR"):
            raise RuntimeError("finish")
        if os.environ.get("RANK", "0") != "0":
            return None
        return Report(status, self.units)


class Case:
    def __init__(self, model=None, batches=None, loss_fn=None, optimizer=None, name=None):
        self.model = model


def examine_case(case, units, *, ablation, thresholds):
    log("thresholds", thresholds.changed())
    return Report("finished", units)


for name in os.environ.get("FAKE_IMPORTS", "").split():
    __import__(name)


def build(recording, units, store, thresholds):
    log("thresholds", thresholds.changed())
    return Report(recording.facts["status"], units)


def render_runs(listed):
    return "\n".join(f"RUN {run['name']} {run['status']}" for run in listed)


HOMES = {
    "flatline.api": (Case, examine_case),
    "flatline.session": (StopTraining, Session),
    "flatline.show.report": (build,),
    "flatline.show.terminal": (render_runs,),
}
for home, things in HOMES.items():
    module = types.ModuleType(home)
    for thing in things:
        setattr(module, thing.__name__, thing)
    sys.modules[home] = module
del sys.modules[__name__]
sys.modules[__name__] = types.ModuleType(__name__)
