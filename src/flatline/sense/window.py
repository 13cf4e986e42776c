"""Vitals of the examples seen lately, in 27 to 37 bytes per unit.

More only for windows of more than 65,535 examples, and for units that are copies of others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flatline.activations import Activation
from flatline.sense.vitals import Vitals, merge

#: Examples after which a window is complete and the next one begins.
WINDOW_EXAMPLES = 512
_MOST = np.iinfo(np.uint16).max


def _bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper half of each number: range kept, two to three digits."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _float32(halves: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    return (halves.astype(np.uint32) << 16).view(np.float32)


class Window:
    """The vitals of one site since the window began, between exams.

    Outputs of a monotone activation need no extrema of their own, and numbers that only choose
    between states are kept short; see :meth:`vitals` for the full record.

    Args:
        activation: The site's nonlinearity.
        units: Number of units.
        gated: The units' outputs are the nonlinearity's times something else.
    """

    def __init__(self, activation: Activation, units: int, gated: bool = False) -> None:
        self._activation = activation
        self._units = units
        self._gated = gated
        self._examples = 0
        self._table: npt.NDArray[np.void] | None = None
        #: Units that have a twin, and which; hardly any unit has one.
        self._twins = (np.empty(0, np.int32), np.empty(0, np.int32))

    @property
    def examples(self) -> int:
        """Number of examples in the window."""
        return self._examples

    @property
    def _derives(self) -> bool:
        activation = self._activation
        return activation.monotone and activation.function is not None and not self._gated

    @np.errstate(over="ignore")  # a square may be larger than single precision holds
    def add(self, vitals: Vitals) -> None:
        """Merge an exam."""
        total = merge(self.vitals(), vitals) if self._examples else vitals
        short = np.uint16 if total.examples <= _MOST else np.uint32
        twins = np.flatnonzero(total.twin != np.arange(self._units))
        columns: dict[str, npt.NDArray[np.generic]] = {
            "fired": total.fired.astype(short),
            "z_min": total.z_min,
            "z_max": total.z_max,
            "h_abs": total.h_abs.astype(np.float32),
            "z_sum": total.z_sum.astype(np.float32),
            "z_sq": total.z_sq.astype(np.float32),
            "gradient": _bfloat16(total.gradient),
            "update": _bfloat16(total.update),
            "flags": (total.nonfinite + 2 * total.ignored).astype(np.uint8),
        }
        if self._activation.rails:
            columns["railed"] = total.railed.astype(short)
        if not self._derives:
            columns |= {"h_min": total.h_min, "h_max": total.h_max}
        table = np.empty(self._units, [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            table[name] = column
        self._table, self._examples = table, total.examples
        self._twins = twins.astype(np.int32), total.twin[twins].astype(np.int32)

    def vitals(self) -> Vitals:
        """The vitals as the later rooms know them."""
        table = self._table
        if table is None:
            return Vitals.empty(self._units)
        flags = table["flags"]
        railed = table["railed"] if self._activation.rails else np.zeros(self._units)
        twin = np.arange(self._units, dtype=np.int32)
        twin[self._twins[0]] = self._twins[1]
        z_min, z_max = table["z_min"].copy(), table["z_max"].copy()
        if self._derives:
            function = self._activation.function
            assert function is not None
            with np.errstate(invalid="ignore", over="ignore"):
                h_min, h_max = (function(z.astype(np.float64)) for z in (z_min, z_max))
        else:
            h_min, h_max = table["h_min"].copy(), table["h_max"].copy()
        return Vitals(
            examples=self._examples,
            fired=table["fired"].astype(np.int32),
            railed=railed.astype(np.int32),
            z_min=z_min,
            z_max=z_max,
            h_min=np.asarray(h_min, np.float32),
            h_max=np.asarray(h_max, np.float32),
            h_abs=table["h_abs"].astype(np.float64),
            z_sum=table["z_sum"].astype(np.float64),
            z_sq=table["z_sq"].astype(np.float64),
            twin=twin,
            nonfinite=(flags & 1).astype(bool),
            ignored=(flags & 2).astype(bool),
            gradient=_float32(table["gradient"]),
            update=_float32(table["update"]),
        )

    @property
    def nbytes(self) -> int:
        """Memory of the window."""
        table = 0 if self._table is None else self._table.nbytes
        return table + sum(part.nbytes for part in self._twins)
