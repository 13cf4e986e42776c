"""Finds dead neurons in PyTorch training runs and explains them.

``flatline run train.py`` watches a training script that nobody changed. In Python:

```
report = flatline.examine(model, batches, loss_fn)
monitor = flatline.Monitor(model, optimizer, budget=0.01)
flatline.log("val_accuracy", 0.97)
flatline.treat(model, optimizer, "clip=norm:1.0")
result = flatline.trial(case, ["lr=x0.1"], seeds=3)
```
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # as checkers know it; typing takes longer to load than all else here
if TYPE_CHECKING:
    from flatline.api import Case, Monitor, examine, log
    from flatline.errors import FlatlineError, StoreError, UnsupportedError, UsageError
    from flatline.experiment import trial
    from flatline.show.report import Report
    from flatline.treatments.treat import treat

#: Public names and where they live; each is imported when it is first used.
_HOMES = {
    "Case": "flatline.api",
    "FlatlineError": "flatline.errors",
    "Monitor": "flatline.api",
    "Report": "flatline.show.report",
    "StoreError": "flatline.errors",
    "UnsupportedError": "flatline.errors",
    "UsageError": "flatline.errors",
    "examine": "flatline.api",
    "log": "flatline.api",
    "treat": "flatline.treatments.treat",
    "trial": "flatline.experiment",
}

__all__ = [
    "Case",
    "FlatlineError",
    "Monitor",
    "Report",
    "StoreError",
    "UnsupportedError",
    "UsageError",
    "__version__",
    "examine",
    "log",
    "treat",
    "trial",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
