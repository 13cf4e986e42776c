"""Which modules a program trains, and what its user calls them and their parameters.

Nobody hands flatline a model under ``flatline run``: the optimizer's parameters are known, and the
modules that own them are found among the live objects of the process.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Container, Iterable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

#: Attributes under which a wrapper keeps the module it wraps.
_INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
#: Packages whose modules keep the wrapped one as ``.module``.
_WRAPPING = ("torch.nn.parallel", "torch.distributed", "accelerate", "deepspeed", "lightning")


def inner(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper (DDP, FSDP, ``torch.compile``, checkpointing) stands for.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> inner(nn.DataParallel(layer)) is layer, inner(layer) is None
        (True, True)
    """
    children = module._modules
    for attribute in _INNER:
        if attribute in children:
            return children[attribute]
    if "module" in children and type(module).__module__.startswith(_WRAPPING):
        return children["module"]
    return None


def _live_modules() -> list[nn.Module]:
    """Every module alive.

    By exact type rather than ``isinstance``: proxies may answer that, and this is one pass over
    hundreds of thousands of objects.
    """
    kinds, waiting = {nn.Module}, [nn.Module]
    while waiting:
        fresh = set(type.__subclasses__(waiting.pop())) - kinds
        kinds |= fresh
        waiting.extend(fresh)
    found = [thing for thing in gc.get_objects() if type(thing) in kinds]
    # A module whose __init__ has not run yet has no _modules.
    return [module for module in found if "_modules" in module.__dict__]


def roots(parameters: Iterable[Tensor]) -> list[nn.Module]:
    """The outermost live modules that own any of ``parameters``, wrappers taken off.

    Args:
        parameters: The parameters of the optimizers.

    Returns:
        Modules in the order in which ``parameters`` first reach them.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> roots(model.parameters()) == [model]
        True
    """
    wanted = {id(parameter): rank for rank, parameter in enumerate(parameters)}
    parents: dict[int, list[nn.Module]] = {}
    rank_of: dict[int, int] = {}
    owners: list[nn.Module] = []
    for module in _live_modules():
        for child in module._modules.values():
            if child is not None:
                parents.setdefault(id(child), []).append(module)
        ranks = [wanted[id(p)] for p in module._parameters.values() if id(p) in wanted]
        if ranks:
            owners.append(module)
            rank_of[id(module)] = min(ranks)
    best: dict[int, tuple[int, nn.Module]] = {}
    for owner in owners:
        for top in _ascend(owner, parents):
            while (wrapped := inner(top)) is not None:
                top = wrapped
            rank = min(rank_of[id(owner)], best.get(id(top), (len(wanted), top))[0])
            best[id(top)] = (rank, top)
    return [module for _, module in sorted(best.values(), key=lambda pair: pair[0])]


def _ascend(module: nn.Module, parents: dict[int, list[nn.Module]]) -> list[nn.Module]:
    tops, seen, waiting = [], set(), [module]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        above = parents.get(id(current), [])
        waiting.extend(above)
        if not above:
            tops.append(current)
    return tops


class Names:
    """Qualified names of modules and parameters, as ``named_modules()`` of the user's model gives.

    Wrappers leave no trace in a name. With several models each name begins with the model's class
    (``Generator.net.0``).

    Args:
        models: The root modules.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3))
        >>> names = Names([model])
        >>> names.module(model[0]), names.parameter(model[0].weight)
        ('0', '0.weight')
    """

    def __init__(self, models: Iterable[nn.Module]) -> None:
        self._modules: dict[int, tuple[weakref.ref[nn.Module], str]] = {}
        self._parameters: dict[int, tuple[weakref.ref[Tensor], str]] = {}
        self._storages: dict[tuple[int, int, int], int] = {}
        self._buffers: dict[int, weakref.ref[Tensor]] = {}
        models = list(models)
        kinds = [type(model).__name__ for model in models]
        for place, model in enumerate(models):
            prefix = ""
            if len(models) > 1:
                twin = kinds[:place].count(kinds[place])
                prefix = kinds[place] + (f"#{twin + 1}" if twin else "")
            self._walk(model, prefix)

    def __bool__(self) -> bool:
        return bool(self._modules)

    def _walk(self, module: nn.Module, name: str) -> None:
        if self.module(module) is not None:
            return
        self._modules[id(module)] = (weakref.ref(module), name)
        wrapped = inner(module)
        if wrapped is not None:
            self._walk(wrapped, name)
            return
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in self._parameters:
                self._enter(parameter, f"{name}.{key}" if name else key)
        for buffer in module._buffers.values():
            if buffer is not None:
                self._buffers[id(buffer)] = weakref.ref(buffer)
        for key, child in module._modules.items():
            if child is not None:
                self._walk(child, f"{name}.{key}" if name else key)

    def _enter(self, parameter: Tensor, name: str) -> None:
        self._parameters[id(parameter)] = (weakref.ref(parameter), name)
        place = _place(parameter)
        if place is not None:
            self._storages.setdefault(place, id(parameter))

    def module(self, module: nn.Module) -> str | None:
        """The name of ``module``; ``None`` where it is no part of the models, wrappers aside."""
        while True:
            known = self._modules.get(id(module))
            if known is not None and known[0]() is module:
                return known[1]
            wrapped = inner(module)
            if wrapped is None:
                return None
            module = wrapped

    def parameter(self, tensor: Tensor) -> str | None:
        """The name of the parameter that ``tensor`` is, or whose memory it is; else ``None``."""
        found = self.find(tensor)
        return None if found is None else self._parameters[id(found)][1]

    def find(self, tensor: Tensor) -> Tensor | None:
        """The parameter itself for a tensor that is one, or that shares its memory and extent."""
        known = self._parameters.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return tensor
        place = _place(tensor)
        if place is None:
            return None
        known = self._parameters.get(self._storages.get(place, -1))
        return None if known is None else known[0]()

    def parameters(self) -> list[tuple[str, Tensor]]:
        """All parameters that are alive and have a shape, each once, with their names."""
        known = ((name, ref()) for ref, name in self._parameters.values())
        return [(name, one) for name, one in known if one is not None and not is_lazy(one)]

    def idle(self, called: Container[str], shown: Container[str]) -> list[str]:
        """The outermost modules with parameters that did nothing.

        Args:
            called: Names of modules that were called.
            shown: Names of parameters that an operator was given.
        """
        owned: dict[str, int] = {}  # to each module, how many parameters it has
        busy: set[str] = set()
        for _, name in self._modules.values():
            if name in called:
                busy.update(_above(name))
        for _, name in self._parameters.values():
            above = _above(name)[1:]
            owned.update((module, owned.get(module, 0) + 1) for module in above)
            if name in shown:
                busy.update(above)
        every = (name for _, name in self._modules.values())
        names = [name for name in every if name and name in owned and name not in busy]
        return [name for name in names if _above(name)[1] not in names]

    def is_buffer(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is a buffer of the models."""
        known = self._buffers.get(id(tensor))
        return known is not None and known() is tensor

    def adopt(self, tensor: Tensor, module: nn.Module) -> bool:
        """Take ``tensor`` for a parameter if ``module`` holds it (FSDP swaps them as it runs)."""
        name = self.module(module)
        if name is None:
            return False
        for key, parameter in module._parameters.items():
            if parameter is tensor:
                self._enter(tensor, f"{name}.{key}" if name else key)
                return True
        return False


def _above(name: str) -> list[str]:
    """A name and those of all that it is a part of, up to the model's, ``""``."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)] + [""]


def _place(tensor: Tensor) -> tuple[int, int, int] | None:
    """Where a tensor's numbers lie; ``None`` where it has no memory of its own to compare."""
    if is_lazy(tensor):
        return None  # a lazy module has not seen its first input yet
    try:
        address = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return None
    return (address, int(tensor.storage_offset()), tensor.numel()) if address else None


def parameters_of(optimizers: Iterable[torch.optim.Optimizer]) -> list[Tensor]:
    """All parameters of the optimizers, each once, in order."""
    seen: dict[int, Tensor] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                seen.setdefault(id(parameter), parameter)
    return list(seen.values())
