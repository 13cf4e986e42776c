"""Puts another nonlinearity in the place of the one that a model was written with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flatline.errors import UnsupportedError
from flatline.treatments.plan import Part, Patient
from flatline.treatments.scout import FUNCTIONS, Scene

if TYPE_CHECKING:
    from flatline.anatomy.atlas import Place
    from flatline.treatments.registry import Treatment

#: Under this name a module keeps the nonlinearity that its own calls are given instead.
CHILD = "flatline_activation"

#: Functions that write their result over their argument.
_IN_PLACE = frozenset(
    one for functions in FUNCTIONS.values() for one in functions if one.__name__.endswith("_")
)
_MAKE: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu": nn.LeakyReLU,
    "prelu": lambda: nn.PReLU(init=0.0),  # as ReLU is, so that the function stays the same
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class Swapping(TorchFunctionMode):
    """Gives calls of some functions to a module.

    Args:
        functions: The functions.
        module: What takes their place.
        place: Which of their calls, counted from 1; ``None`` for all.
    """

    def __init__(
        self, functions: frozenset[Any], module: nn.Module, place: int | None = None
    ) -> None:
        super().__init__()
        self._functions, self._module, self._place = functions, module, place
        self.calls = 0

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self._functions:
            return func(*args, **kwargs)
        self.calls += 1
        if self._place not in (None, self.calls):
            return func(*args, **kwargs)
        z = args[0] if args else kwargs["input"]
        if func in _IN_PLACE or kwargs.get("inplace"):
            # Whoever writes in place may not look at the result. The copy is for the backward pass.
            return z.copy_(self._module(z.clone()))
        return self._module(z)


@cache
def _swapping(kind: Any, activations: frozenset[str]) -> type[nn.Module]:
    """A class like ``kind`` in whose forward pass calls of these activations are swapped."""
    functions = frozenset[Any]().union(*(FUNCTIONS[name] for name in activations))

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with Swapping(functions, getattr(self, CHILD)):
            return kind.forward(self, *args, **kwargs)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return _empty, (kind, activations), self.__dict__.copy()

    members = {"forward": forward, "__reduce_ex__": __reduce_ex__, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


def _empty(kind: Any, activations: frozenset[str]) -> nn.Module:
    """What pickle fills with the state of a module of such a class."""
    swapping = _swapping(kind, activations)
    module: nn.Module = swapping.__new__(swapping)
    return module


class Swap(Part):
    """``activation=``: modules are replaced where they are kept, calls where they are made."""

    def __init__(self, treatment: Treatment) -> None:
        self._kind: str = treatment.value
        self.changes = f"replaces each nonlinearity that may be swapped by {self._kind}"
        if self._kind == "prelu":
            self.changes += ", with one slope per layer, 0 at first"

    def at_data(self, patient: Patient) -> None:
        """Swap.

        Raises:
            UnsupportedError: There is nothing to swap.
        """
        scene = patient.look()
        places: dict[nn.Module, list[Place]] = {}
        for place, stack in scene.sites:
            if stack and self._kind in place.activation.swaps:
                places.setdefault(stack[-1], []).append(place)
        done = 0
        for owner, found in places.items():
            why = self._cannot(scene, patient.model, owner, found)
            if why:
                name = scene.names.module(owner) or type(owner).__name__
                patient.say(f"activation={self._kind} leaves {name} as it is: {why}")
            else:
                self._swap(patient, scene, owner, found)
                done += 1
        if not done:
            raise UnsupportedError(
                f"expected a nonlinearity that can be replaced by {self._kind}, found none; "
                "leave this treatment out"
            )

    def _cannot(self, scene: Scene, model: nn.Module, owner: nn.Module, places: list[Place]) -> str:
        """Why the calls of a module cannot be swapped; empty where they can."""
        names = {place.activation.name for place in places}
        if is_activation(owner):
            return "it is the model itself" if owner is model else ""
        if "forward" in vars(owner):
            return "its forward method was replaced"
        if not names <= FUNCTIONS.keys():
            return f"{', '.join(sorted(names - FUNCTIONS.keys()))} is no call of one function there"
        functions = frozenset[Any]().union(*(FUNCTIONS[name] for name in names))
        calls = sum(func in functions and owner in stack for func, stack in scene.calls)
        sites = sum(
            place.activation.name in names and owner in stack for place, stack in scene.sites
        )
        if calls != sites:
            return (
                f"of {calls} calls of {', '.join(sorted(names))} in its forward pass {sites} "
                "are nonlinearities of units"
            )
        return ""

    def _swap(self, patient: Patient, scene: Scene, owner: nn.Module, places: list[Place]) -> None:
        name = scene.names.module(owner) or ""
        beside = places[0].beacon or places[0].matrix
        like = None if beside is None else beside.parameter
        fresh = _MAKE[self._kind]().train(owner.training)
        if like is not None:
            fresh.to(like.device, like.dtype)
        if is_activation(owner):
            stand_in(patient.model, owner, fresh)
        else:
            kinds = frozenset(place.activation.name for place in places)
            owner.add_module(CHILD, fresh)
            kind: Any = type(owner)
            owner.__class__ = _swapping(kind, kinds)
            name = f"{name}.{CHILD}" if name else CHILD
        added: dict[str, Tensor] = {f"{name}.{key}": p for key, p in fresh.named_parameters()}
        if added:
            patient.adopt(added, like)


#: Where a module keeps what was hooked to its calls.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)


def stand_in(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another; whoever listens to that one listens to it."""
    for name in _HOOKS:
        setattr(new, name, getattr(old, name))  # the same, so that handles still remove their hooks
    for module in list(model.modules()):
        for key, child in module._modules.items():
            if child is old:
                module._modules[key] = new


def is_activation(module: nn.Module) -> bool:
    """Whether a module is nothing but a nonlinearity: it has neither parts nor parameters."""
    return not module._modules and next(iter(module.parameters()), None) is None


BUILD = {"activation": Swap}
