"""Which parameters a training moves, and why the others stay: read around one update of an exam.

Of each parameter some entries are copied before the update and compared after it. Where none of
them moved, the next exam looks at the entry with the largest gradient, before it is said that the
parameter stays.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatline.sense.drawn import looks_drawn

#: Entries of each parameter that are compared.
ENTRIES = 64
#: Lists of parameters that do not move although they ask for a gradient.
IDLE = ("unowned", "no_gradient", "still")
#: Names that a list holds at most.
NAMED = 100


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's numbers can be read here without asking other processes."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.layout is torch.strided
        and not tensor.is_complex()
        and tensor.numel() > 0
        and tensor.untyped_storage().nbytes() > 0
    )


def entries(tensor: Tensor, number: int = ENTRIES) -> Tensor:
    """Some entries of ``tensor``, spread evenly: a view where it is contiguous."""
    flat = tensor.detach().reshape(-1)
    return flat[:: -(-len(flat) // number)]


@dataclass
class _Group:
    """Parameters of one device and type, whose numbers are brought over together."""

    parameters: list[weakref.ref[Tensor]]
    before: Tensor
    sizes: list[int]


@dataclass
class Reading:
    """What was read of the parameters in one exam, by their identity.

    Attributes:
        groups: Entries before the update.
        peaks: The entry with the largest gradient: its place and its value.
        norms: Largest absolute gradient, by the same groups.
        none: Parameters without a gradient.
        opaque: Parameters whose gradient cannot be read here.
    """

    groups: list[_Group] = field(default_factory=list)
    peaks: dict[int, tuple[weakref.ref[Tensor], Tensor, Tensor]] = field(default_factory=dict)
    norms: list[tuple[list[int], Tensor]] = field(default_factory=list)
    none: set[int] = field(default_factory=set)
    opaque: set[int] = field(default_factory=set)


class Parameters:
    """Follows the parameters of a run over its exams."""

    def __init__(self) -> None:
        self._reading = Reading()
        self._suspects: set[int] = set()
        self._drawn: dict[tuple[str, ...], bool] = {}
        self._elsewhere: dict[str, Tensor] = {}
        self._others: set[str] = set()

    def discard(self) -> None:
        """Drop what was read in an exam that is not concluded."""
        self._reading = Reading()

    def before_update(self, parameters: Sequence[Tensor]) -> None:
        """Copy some entries before an update."""
        for members in _alike(parameters):
            views = [entries(one) for one in members]
            refs = [weakref.ref(one) for one in members]
            sizes = [len(view) for view in views]
            self._reading.groups.append(_Group(refs, torch.cat(views), sizes))

    def gradients(self, parameters: Sequence[Tensor], *, updated: bool) -> None:
        """Read the gradients that an update uses.

        Args:
            parameters: All parameters of an optimizer.
            updated: The update has happened already.
        """
        reading, owner = self._reading, {}
        for one in parameters:
            if one.grad is None:
                reading.none.add(id(one))
            elif is_plain(one.grad) and is_plain(one):
                owner[id(one.grad)] = one
            else:
                reading.opaque.add(id(one))
        for members in _alike(one.grad for one in owner.values()):
            norms = torch._foreach_norm([one.detach() for one in members], float("inf"))
            owners = [owner[id(gradient)] for gradient in members]
            reading.norms.append(([id(one) for one in owners], torch.stack(norms)))
            for one, gradient in zip(owners, members, strict=True):
                if id(one) in self._suspects and not updated:
                    place = gradient.detach().reshape(-1).abs().argmax()
                    value = one.detach().reshape(-1)[place].clone()
                    reading.peaks[id(one)] = weakref.ref(one), place, value

    def conclude(
        self,
        every: Iterable[tuple[str, Tensor]],
        owned: Iterable[Tensor],
        used: set[str],
    ) -> dict[str, Any]:
        """The evidence of the note ``"parameters"``, after the update.

        Args:
            every: All parameters of the models by name.
            owned: Parameters of all optimizers known.
            used: Names of parameters that some loss depended on so far, detached or not.
        """
        reading, self._reading = self._reading, Reading()
        every = list(every)
        theirs = {id(one) for one in owned}
        moved = _moved(reading)
        alive = {key for keys, norm in reading.norms for key in _nonzero(keys, norm)}
        read = {key for keys, _ in reading.norms for key in keys} | reading.none
        compared = moved.keys() & alive
        still = {key for key in compared if not moved[key] and key in reading.peaks}
        still = {key for key in still if not _changed(*reading.peaks[key])}
        self._suspects = {key for key in compared if not moved[key]}
        lists: dict[str, list[tuple[str, Tensor]]] = {
            "frozen": [(n, p) for n, p in every if not p.requires_grad],
            "unowned": self._unowned((n, p) for n, p in every if id(p) not in theirs),
            "no_gradient": [
                (n, p)
                for n, p in every
                if p.requires_grad and id(p) in theirs & read and id(p) not in alive
            ],
            "still": [(n, p) for n, p in every if id(p) in still],
        }
        found: dict[str, Any] = {
            "total": len(every),
            "elements": _count(p for _, p in every),
            "trained": _count(p for _, p in every if moved.get(id(p), False)),
        }
        for name, members in lists.items():
            found[name] = [one for one, _ in members[:NAMED]]
            found[f"{name}_elements"] = _count(p for _, p in members)
        found["drawn"] = [name for name in IDLE if self._looks_drawn(lists[name])]
        first = next((i for i, (_, p) in enumerate(every) if moved.get(id(p), False)), 0)
        before = {name for name, _ in every[:first]}
        found["leading"] = [kind for kind in IDLE if _names(lists[kind]) <= before]
        unused = [(n, p) for n, p in every if n not in used and p.requires_grad and p.grad is None]
        found["unused"] = [name for name, _ in unused[:NAMED]]
        found["unused_elements"] = _count(p for _, p in unused)
        return found

    def _unowned(self, members: Iterable[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
        """Those that ask for a gradient, and that nobody else was seen to move."""
        asking = [(name, one) for name, one in members if one.requires_grad]
        for name, one in asking:
            if not is_plain(one) or name in self._others:
                continue
            before, now = self._elsewhere.get(name), entries(one)
            if before is None:
                self._elsewhere[name] = now.clone()
            elif before.shape != now.shape or not torch.equal(before, now):
                self._others.add(name)  # by an optimizer that is not watched, or as a copy
                del self._elsewhere[name]
        return [(name, one) for name, one in asking if name not in self._others]

    def _looks_drawn(self, members: Sequence[tuple[str, Tensor]]) -> bool:
        """Whether parameters that do not move look as if just drawn; judged once."""
        key = tuple(name for name, _ in members)
        if key not in self._drawn:
            self._drawn[key] = looks_drawn(p for _, p in members if is_plain(p))
        return self._drawn[key]


def _names(members: Sequence[tuple[str, Tensor]]) -> set[str]:
    return {name for name, _ in members}


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(one.numel() for one in parameters)


def _alike(tensors: Iterable[Tensor | None]) -> list[list[Tensor]]:
    """Plain tensors, by device and type."""
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for one in tensors:
        if one is not None and is_plain(one):
            groups.setdefault((one.device, one.dtype), []).append(one)
    return list(groups.values())


def _nonzero(keys: Sequence[int], norms: Tensor) -> list[int]:
    """Keys whose norm is not 0; what is not a number counts as one that is not."""
    alive = (norms != 0).cpu().tolist()
    return [key for key, nonzero in zip(keys, alive, strict=True) if nonzero]


def _moved(reading: Reading) -> dict[int, bool]:
    """Whether any of the copied entries of each parameter changed; by its identity."""
    found: dict[int, bool] = {}
    for group in reading.groups:
        members = [ref() for ref in group.parameters]
        if any(one is None or not is_plain(one) for one in members):
            continue
        now = [entries(one) for one in members if one is not None]
        if [len(view) for view in now] != group.sizes:
            continue
        changed = (torch.cat(now) != group.before).cpu().numpy()
        starts = np.concatenate([[0], np.cumsum(group.sizes)[:-1]])
        any_changed = np.logical_or.reduceat(changed, starts)
        for one, moved in zip(members, any_changed.tolist(), strict=True):
            found[id(one)] = moved
    return found


def _changed(ref: weakref.ref[Tensor], place: Tensor, value: Tensor) -> bool:
    """Whether the entry with the largest gradient changed."""
    parameter = ref()
    if parameter is None or not is_plain(parameter):
        return True
    return bool(parameter.detach().reshape(-1)[place] != value)
