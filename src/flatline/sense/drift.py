"""How the mean pre-activation of each unit moves from exam to exam, taken apart.

For a unit with weights w and bias b on inputs of mean x̄, the mean pre-activation is z̄ = w·x̄ + b,
and between two exams

    z̄' − z̄ = (b' − b) + (w' − w)·x̄ + w'·(x̄' − x̄)

holds exactly. It needs, of the exam before, x̄ (one vector per layer), z̄ and b (one number per
unit) and no copy of the weights, since w·x̄ = z̄ − b. Behind a normalisation w is its scale, unit by
unit, and x̄ the mean of what it normalised, which for a batch normalisation is 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flatline.anatomy.atlas import Place
from flatline.anatomy.inputs import Inputs
from flatline.sense.autopsy import Deaths
from flatline.sense.gradients import rows_of
from flatline.sense.history import Float
from flatline.sense.vitals import Vitals

#: Largest part of z̄ and its spread by which w·x̄ + b may miss it and still count as its maker.
_MISS = 0.02


class Drift:
    """One site's mean inputs and pre-activations, at the last exam and the first.

    Args:
        place: The site.

    Attributes:
        birth: After the site's first exam z̄, b and the spread of z of each unit, one after the
            other: too much to keep, so whoever writes it down sets it to ``None``.
    """

    #: Numbers per unit that :meth:`look` begins and :meth:`settle` completes.
    ROWS = 5

    def __init__(self, place: Place) -> None:
        self._place = place
        self._means: tuple[Tensor | None, Tensor | None] = (None, None)
        self._now: Tensor | None = None
        self._normal: Float | None = None
        self._z: Float | None = None
        self._b: Float | None = None
        self._step = -1
        self.birth: Float | None = None

    # -- on the device ----------------------------------------------------------------------------

    def look(self, inputs: Inputs | None) -> Tensor:
        """Take the layer apart before the update.

        Args:
            inputs: What the layer was given in all forward passes of the step; ``None`` behind a
                normalisation and where it is not known.

        Returns:
            Shape ``(ROWS, units)``: b, w·x̄ with the x̄ of now, of the last exam and of the first,
            and room for :meth:`settle`. Behind a normalisation: b, its scale, and room.
        """
        place = self._place
        device = place.feeds[0].parameter.device if place.feeds else None
        rows = torch.full((self.ROWS, place.units), torch.nan, device=device)
        rows[0] = self._bias(rows[0])
        self._now = None
        if inputs is not None:
            now = inputs.total / max(inputs.rows, 1)
            self._now = now if self._weight(now) is not None else None
            for row, mean in enumerate((self._now, *self._means), 1):
                if mean is not None:
                    rows[row] = self._product(mean)
        elif place.scale is not None:
            rows[1] = self._scale(rows[1])
        return rows

    def settle(self, rows: Tensor) -> Tensor:
        """Complete the rows after the update.

        Returns:
            The rows: the last is how far the update alone moved z̄; behind a normalisation the
            third and fourth are b and the scale as they are now.
        """
        if self._now is not None:
            rows[4] = self._product(self._now) + self._bias(rows[4]) - (rows[0] + rows[1])
            self._means = (self._now, self._now if self._means[1] is None else self._means[1])
        elif self._place.scale is not None:
            rows[2], rows[3] = self._bias(rows[2]), self._scale(rows[3])
        self._now = None
        return rows

    def _bias(self, like: Tensor) -> Tensor:
        feed = self._place.beacon
        if feed is None or not feed.shift:
            return torch.zeros_like(like)
        found = rows_of(feed.parameter, feed, self._place)
        return torch.full_like(like, torch.nan) if found is None else found[:, 0].to(like.dtype)

    def _scale(self, like: Tensor) -> Tensor:
        feed = self._place.scale
        found = None if feed is None else rows_of(feed.parameter, feed, self._place)
        return torch.full_like(like, torch.nan) if found is None else found[:, 0].to(like.dtype)

    def _weight(self, mean: Tensor) -> Tensor | None:
        """The weights, one row per unit; ``None`` where they do not fit the inputs."""
        feed = self._place.matrix
        rows = None if feed is None else rows_of(feed.parameter, feed, self._place)
        if rows is None or rows.shape[1] != mean.shape[-1]:
            return None
        groups = mean.shape[0] if mean.ndim > 1 else 1
        return rows.to(mean.dtype) if rows.shape[0] % groups == 0 else None

    def _product(self, mean: Tensor) -> Tensor:
        weight = self._weight(mean)
        assert weight is not None  # it fitted when the mean was taken
        if mean.ndim == 1:
            return (weight @ mean).float()
        each = mean.repeat_interleave(len(weight) // len(mean), dim=0)
        return (weight * each).sum(dim=1).float()

    # -- on the host ------------------------------------------------------------------------------

    def advance(
        self,
        step: int,
        vitals: Vitals,
        spread_before: Float,
        rows: Float,
        died: npt.NDArray[np.intp],
    ) -> tuple[Deaths | None, Float]:
        """Go on to this exam.

        Args:
            step: The exam.
            vitals: What it saw.
            spread_before: Standard deviation of z of each unit before this exam.
            rows: What :meth:`look` and :meth:`settle` gave.
            died: Units newly found silent.

        Returns:
            How they died, ``None`` where none did or there was no exam before; and how far the
            update alone moved z̄ of each unit.
        """
        z, spread = vitals.z_mean, vitals.z_std
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            b, last, first, shift = self._apart(z, rows)
            found = None
            if len(died) and self._z is not None and self._b is not None:
                bias = b - self._b
                weight = last - (self._z - self._b)
                rest = z - self._z - bias - weight
                kept = (self._z, z, spread_before, spread)
                columns = (*kept, bias, weight, rest, b, first)
                terms = np.stack([column[died] for column in columns]).astype(np.float32)
                found = Deaths(step, self._step, died.astype(np.int32), terms)
        self.birth = None if self._step >= 0 else np.concatenate([z, b, spread])
        self._step, self._z, self._b = step, z, b
        return found, shift

    def _apart(self, z: Float, rows: Float) -> tuple[Float, Float, Float, Float]:
        """b, w·x̄ of the last exam and of the first, and the shift by the update; NaN if unknown."""
        b = rows[0]
        if self._place.scale is None:
            _, now, last, first, shift = rows
            missed = ~(np.abs(b + now - z) <= _MISS * (np.abs(z) + np.abs(now) + np.abs(b)) + 1e-6)
            if not self._place.mixed:
                b, last, first, shift = (
                    np.where(missed, np.nan, row).astype(np.float32)
                    for row in (b, last, first, shift)
                )
            return b, last, first, shift
        _, scale, b_now, scale_now, _ = rows
        normal = (z - b) / scale
        shift = b_now + scale_now * normal - z
        before = np.zeros_like(z) if self._place.by_batch else self._normal
        last = np.full_like(z, np.nan) if before is None else scale * before
        first = last if self._place.by_batch else np.full_like(z, np.nan)
        if not self._place.by_batch:
            self._normal = normal
        return b, last, first, shift

    @property
    def nbytes(self) -> int:
        """Memory held between exams."""
        kept = [array.nbytes for array in (self._z, self._b, self._normal) if array is not None]
        means = {id(mean): mean.nbytes for mean in self._means if mean is not None}
        return sum(kept) + sum(means.values())
