"""Looks at a model on one batch: where its sites are, and which calls make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from flatline.anatomy.atlas import Atlas, Place
from flatline.anatomy.course import Layer
from flatline.anatomy.inputs import Inputs
from flatline.anatomy.roots import Names
from flatline.anatomy.spread import Spread
from flatline.anatomy.stacked import stacked
from flatline.anatomy.tracer import Tracer
from flatline.errors import UnsupportedError
from flatline.sense.exam import Exam
from flatline.sense.gauge import Reading
from flatline.sense.lone import untouched
from flatline.sense.staff import Staff

#: The functions that apply a nonlinearity by its name, as user code and torch's modules call them.
FUNCTIONS: dict[str, frozenset[Any]] = {
    name: frozenset(functions)
    for name, functions in {
        "relu": (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
        "relu6": (F.relu6,),
        "hardtanh": (F.hardtanh, F.hardtanh_),
        "elu": (F.elu, F.elu_),
        "selu": (F.selu, F.selu_, torch.selu, torch.selu_),
        "celu": (F.celu, F.celu_, torch.celu, torch.celu_),
        "gelu": (F.gelu,),
        "gelu_tanh": (F.gelu,),
        "silu": (F.silu,),
        "mish": (F.mish,),
        "softplus": (F.softplus,),
        "hardswish": (F.hardswish,),
        "hardsigmoid": (F.hardsigmoid,),
        "sigmoid": (torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid),
        "tanh": (torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_, F.tanh),
        "softsign": (F.softsign,),
    }.items()
}
_ALL: frozenset[Any] = frozenset().union(*FUNCTIONS.values())
#: The same, and functions of all units of an output at once.
FAMILIES: dict[str, frozenset[Any]] = {
    **FUNCTIONS,
    "softmax": frozenset((F.softmax, torch.softmax, Tensor.softmax)),
    "log_softmax": frozenset((F.log_softmax, torch.log_softmax, Tensor.log_softmax)),
}
_BENDS: frozenset[Any] = frozenset().union(*FAMILIES.values())

Stack = tuple[nn.Module, ...]
Call = tuple[Any, Stack]


def family(func: Any) -> str:
    """The name of the nonlinearity that a function applies."""
    return next(name for name, functions in FAMILIES.items() if func in functions)


@dataclass
class Scene:
    """What was seen of a model on one batch.

    Attributes:
        names: Names of its modules and parameters.
        sites: Each application of a nonlinearity that is a site, with the modules that ran, the
            outermost first.
        bends: Each call of a function that applies a nonlinearity, in the same way; softmax and
            its logarithm included.
        bent: Whether the output is the result of the last of these calls.
        output: Shape of the output; ``None`` where it is no tensor.
        stacked: Pairs of linear maps with nothing between them.
    """

    names: Names
    sites: list[tuple[Place, Stack]] = field(default_factory=list)
    bends: list[Call] = field(default_factory=list)
    bent: bool = False
    output: torch.Size | None = None
    stacked: list[tuple[Layer, Layer]] = field(default_factory=list)

    @property
    def calls(self) -> list[Call]:
        """Calls of functions of single units."""
        return [one for one in self.bends if one[0] in _ALL]

    def feeding(self, parameter: Tensor) -> Place | None:
        """The site that a parameter feeds."""
        for place, _ in self.sites:
            if any(feed.parameter is parameter for feed in place.feeds):
                return place
        return None


class _Scout(Staff):
    """Notes where each nonlinearity was applied, besides taking the readings."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer
        self.seen: list[tuple[Reading, Stack]] = []

    def before(self, place: Place, z: Tensor, spread: Spread, inputs: Inputs | None) -> Reading:
        """Read a pre-activation, and note who applies the nonlinearity."""
        reading = super().before(place, z, spread, inputs)
        self.seen.append((reading, tuple(self._tracer.stack)))
        return reading


class _Listener(TorchFunctionMode):
    """Notes the calls of functions that apply nonlinearities."""

    def __init__(self, tracer: Tracer, calls: list[Call]) -> None:
        super().__init__()
        self._tracer, self._calls = tracer, calls
        self._result: Any = None

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _BENDS:
            self._calls.append((func, tuple(self._tracer.stack)))
            self._result = result
        return result

    def made(self, output: Tensor) -> bool:
        """Whether the last of these calls gave an output, or what this is a view of."""
        if not isinstance(self._result, Tensor):
            return False
        return output.untyped_storage().data_ptr() == self._result.untyped_storage().data_ptr()


def look(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Scene:
    """Run a model on a batch, in evaluation mode and leaving no trace, and say what was seen.

    Raises:
        UnsupportedError: flatline itself failed on this model.
    """
    names, atlas = Names([model]), Atlas()
    scene = Scene(names)
    tracer = Tracer(names, atlas, Staff())
    exam = Exam(tracer, lambda module: names.module(module) is not None)
    exam.staff = scout = _Scout(tracer)
    tracer.observer = scout
    with untouched(model):
        exam.open()
        try:
            with _Listener(tracer, scene.bends) as listener:
                out = model(*args, **kwargs)
            scene.stacked = stacked(exam.course.layers)
        finally:
            exam.close()
        exam.finish()
    if exam.fault is not None:
        raise UnsupportedError(
            f"expected to follow {type(model).__name__}, found a fault inside flatline "
            f"({type(exam.fault).__name__}: {exam.fault}); please report it"
        ) from exam.fault
    if isinstance(out, Tensor):
        scene.output = out.shape
        scene.bent = listener.made(out)
    known = set(atlas.settle())
    scene.sites = [
        (reading.place, stack)
        for reading, stack in scout.seen
        if reading.place in known and not reading.dropped
    ]
    return scene
