"""What can go wrong, and what a caller may catch.

```
FlatlineError            anything below; every message says what was expected, found, and what to do
├── UsageError           a command or a call that cannot be carried out as given (exit status 2)
├── StoreError           the run store cannot be read or written
│   └── UnknownRunError  it holds no such run
└── UnsupportedError     the model or program is one that flatline cannot treat
```
"""


class FlatlineError(Exception):
    """Base of every error that flatline raises on purpose."""

    exit_status = 2


class UsageError(FlatlineError):
    """A command or a call that cannot be carried out as given."""


class StoreError(FlatlineError):
    """The run store cannot be read or written."""


class UnknownRunError(StoreError):
    """The run store holds no such run."""


class UnsupportedError(FlatlineError):
    """The model or the program is one that flatline cannot handle."""
