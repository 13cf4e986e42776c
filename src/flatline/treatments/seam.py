"""The one seam at which treatments enter a training: of a Python caller, and of a whole program.

Optimizers are treated when they are built and around their steps, models when the first training
batch comes, before it is used. Nothing is touched that no treatment names.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NoReturn

import torch
from torch import nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from flatline.anatomy.roots import inner, parameters_of, roots
from flatline.errors import FlatlineError
from flatline.sense.lone import arguments
from flatline.sense.patch import Patch, skip
from flatline.sense.unseen import simulated
from flatline.treatments import scout
from flatline.treatments.plan import Part, Patient, build
from flatline.treatments.ranks import agree
from flatline.treatments.registry import Treatment

Refuse = Callable[[str], NoReturn]
Say = Callable[[str], None]


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Keep autocast from handing out copies of weights that were made before these changed."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)
        torch.clear_autocast_cache()


class Seam:
    """Carries treatments out.

    Args:
        treatments: What is to be done, in order.
        say: Tells the user one line.
        refuse: Raises what ends a training whose treatment cannot be carried out.
    """

    def __init__(self, treatments: Iterable[Treatment], say: Say, refuse: Refuse) -> None:
        self._parts = [(one, build(one)) for one in treatments]
        self._say, self._refuse = say, refuse
        self._optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._loaded: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._patients: list[weakref.ref[nn.Module]] | None = None
        self._treated: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._told: set[str] = set()
        self._busy = False
        self._waits = any(_waits(part) for _, part in self._parts)
        self._met = False
        #: Whose step a scaler is about to take, or to skip.
        self._skipped: Any = None
        #: Whether an optimizer that it treats took a step.
        self.stepped = False
        self._undo: list[Callable[[], object]] = []
        self._call: Patch | None = None

    # -- beginning and end ---------------------------------------------------------------------

    def treat(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Treat this model and optimizer."""
        while (wrapped := inner(model)) is not None:
            model = wrapped
        self._patients = [weakref.ref(model)]
        self._undo = [
            optimizer.register_step_pre_hook(self._before).remove,
            optimizer.register_step_post_hook(self._after).remove,
            *(patch.remove for patch in self._scalers()),
        ]
        self._born(optimizer)
        self._await_data()

    def treat_now(self, model: nn.Module, batch: Any) -> None:
        """Treat a model on this batch instead of the first that it is called with."""
        args, kwargs, _ = arguments(batch)
        if self._waits:
            self._meet(model, args, kwargs)

    def treat_program(self) -> None:
        """Treat every optimizer that is built from now on, and what it trains."""
        patches = [
            Patch(Optimizer, "__init__", self._around_init),
            Patch(nn.Module, "load_state_dict", self._around_load),
            *self._scalers(),
        ]
        self._undo = [
            register_optimizer_step_pre_hook(self._before).remove,
            register_optimizer_step_post_hook(self._after).remove,
            *(patch.remove for patch in patches),
        ]

    def remove(self) -> None:
        """Take every hook away; what was changed stays."""
        for undo in self._undo:
            undo()
        self._undo = []
        self._forget_calls()
        for _, part in self._parts:
            part.at_end()

    @property
    def idle(self) -> list[Treatment]:
        """Those that could not be carried out so far: no model was met, or no step was taken."""
        return [
            one for one, part in self._parts if not (self._met if _waits(part) else self.stepped)
        ]

    def _scalers(self) -> list[Patch]:
        """What hears of steps that a scaler skips, where a treatment wants to know of them."""
        if all(type(part).after_skip is Part.after_skip for _, part in self._parts):
            return []
        return [Patch(torch.amp.GradScaler, "step", self._around_scaler_step)]

    def _await_data(self) -> None:
        if self._waits and self._call is None:
            self._call = Patch(nn.Module, "__call__", self._around_call)

    def _forget_calls(self) -> None:
        if self._call is not None:
            self._call.remove()
            self._call = None

    # -- moments -------------------------------------------------------------------------------

    def _around_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            self._patients = None
            self._born(optimizer)
            self._await_data()

        return __init__

    def _around_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_state_dict(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            self._loaded.add(module)
            return original(module, *args, **kwargs)

        return load_state_dict

    def _around_scaler_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            self._skipped = optimizer
            try:
                out = original(scaler, optimizer, *args, **kwargs)
                if self._skipped is optimizer and optimizer in self._optimizers:
                    for treatment, part in self._parts:
                        self._carry_out(treatment, part.after_skip, optimizer)
            finally:
                self._skipped = None
            return out

        return step

    def _around_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not self._busy:
                self._meet_in_training(module, args, kwargs)
            return original(module, *args, **kwargs)

        return __call__

    def _born(self, optimizer: Optimizer) -> None:
        self._optimizers.add(optimizer)
        for treatment, part in self._parts:
            if not _waits(part):
                self._announce(treatment, part)
            self._carry_out(treatment, part.at_birth, optimizer)

    def _before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A step begins; ``args`` are those of ``Optimizer.step``, itself the first."""
        if optimizer not in self._optimizers:
            return None
        self.stepped, self._skipped = True, None
        for treatment, part in self._parts:
            self._carry_out(treatment, part.before_step, optimizer)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._complete(optimizer)
            return None
        wrapped = partial(self._around_closure, optimizer, closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": wrapped}
        return (args[0], wrapped, *args[2:]), kwargs

    def _around_closure(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Any:
        loss = closure()
        self._complete(optimizer)
        return loss

    def _complete(self, optimizer: Optimizer) -> None:
        """The gradients of a step are complete."""
        if self._call is not None and self._owed(optimizer):
            treatment = next(one for one, part in self._parts if _waits(part))
            self._refuse(
                f"{treatment}: expected the model to be called as a whole, in training mode, "
                "before its first update, found that it was not; leave this treatment out"
            )
        for treatment, part in self._parts:
            self._carry_out(treatment, part.on_gradients, optimizer)

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        if optimizer in self._optimizers:
            for treatment, part in reversed(self._parts):
                self._carry_out(treatment, part.after_step, optimizer)

    for code in (_before.__code__, _after.__code__):
        skip(code)

    # -- models --------------------------------------------------------------------------------

    def _waiting(self) -> list[weakref.ref[nn.Module]]:
        """The models that wait for their first batch."""
        if self._patients is None:
            found = roots(parameters_of(self._optimizers))
            self._patients = [weakref.ref(one) for one in found if one not in self._treated]
        return [ref for ref in self._patients if ref() is not None]

    def _owed(self, optimizer: Optimizer) -> bool:
        """Whether a model that this optimizer trains was not treated yet."""
        trained = {id(parameter) for parameter in parameters_of([optimizer])}
        models = [model for ref in self._waiting() if (model := ref()) is not None]
        return any(id(p) in trained for model in models for p in model.parameters())

    def _meet_in_training(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A module is about to be called: treat it if this is a model's first training batch."""
        if module.training and torch.is_grad_enabled() and not simulated():
            self._meet(module, args, kwargs)

    def _meet(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Treat a module if it is a model that waits for a batch."""
        while (wrapped := inner(module)) is not None:
            module = wrapped
        waiting = self._waiting()
        if not waiting:
            self._forget_calls()
        if not any(ref() is module for ref in waiting):
            return
        self._busy = True
        try:
            with _uncached():
                self._examine(module, args, kwargs)
        finally:
            self._busy = False
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # code compiled before knows nothing of hooks, and no guard asks
        self._treated.add(module)
        self._met = True
        self._patients = [ref for ref in waiting if ref() is not module]
        if not self._patients:
            self._forget_calls()

    def _examine(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        own = {id(parameter) for parameter in model.parameters()}
        patient = Patient(
            model,
            [one for one in self._optimizers if any(id(p) in own for p in parameters_of([one]))],
            args,
            kwargs,
            partial(scout.look, model, args, kwargs),
            self._trained(model),
            self._say,
        )
        for treatment, part in self._parts:
            if _waits(part):
                self._announce(treatment, part)
                self._carry_out(treatment, part.at_data, patient)
                self._carry_out(treatment, agree, model)

    def _trained(self, model: nn.Module) -> str:
        """Why the weights of a model are not fresh; empty where they are."""
        if any(module in self._loaded for module in model.modules()):
            return "a checkpoint was loaded into it"
        if getattr(model, "name_or_path", ""):
            return f"it was loaded from {getattr(model, 'name_or_path', '')}"
        own = {id(parameter) for parameter in model.parameters()}
        states = (
            state for one in self._optimizers for p, state in one.state.items() if id(p) in own
        )
        # Adagrad's begin with 0 steps; that of LBFGS has its own word for them.
        if any(state.get("step", state.get("n_iter")) != 0 for state in states if state):
            return "it was trained already"
        return ""

    # -- speaking and failing ------------------------------------------------------------------

    def _announce(self, treatment: Treatment, part: Part) -> None:
        line = f"{treatment} {part.changes}"
        if line not in self._told:
            self._told.add(line)
            self._say(line)

    def _carry_out(self, treatment: Treatment, work: Callable[..., None], *args: Any) -> None:
        """Work that must be done, or the training is not the one that was asked for."""
        try:
            work(*args)
        except FlatlineError as error:
            self._refuse(f"{treatment}: {error}")
        except Exception as error:
            self._refuse(
                f"{treatment}: expected to carry it out, found {type(error).__name__}: {error}; "
                "leave this treatment out"
            )


def _waits(part: Part) -> bool:
    """Whether a treatment waits for a model's first training batch."""
    return type(part).at_data is not Part.at_data
