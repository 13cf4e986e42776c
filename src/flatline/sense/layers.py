"""What the layer that feeds a site is like at an exam, in a few numbers, read on the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flatline.anatomy.atlas import Place
from flatline.anatomy.inputs import Features, Inputs
from flatline.sense.gradients import rows_of

#: Numbers of :meth:`Layer.read`, in order; NaN where one is not known.
NUMBERS = (
    "weight_rms",  # root mean square of the feeding weights
    "fan_in",  # number of weights of a unit
    "row_spread",  # largest difference of a weight between units, in largest absolute weights
    "weight_spread",  # difference of the largest and smallest weight, in the same
    "data_offset",  # of data: squared length of the mean, in total variances
    "data_rms",  # of data: root mean square
    "data_spread",  # of data: largest standard deviation of a feature, in the smallest above 0
    "data_constant",  # of data: number of features that have not varied in any exam so far
    "data_features",  # of data: number of features
    "data_shift",  # of data: largest change of a mean since the first exam, in deviations
)
#: Changes of a mean below this many standard errors are chance.
_CHANCE = 5.0


class Layer:
    """The layer that feeds one site.

    Args:
        place: The site.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._first: tuple[Tensor, Tensor, int] | None = None
        self._extremes: tuple[Tensor, Tensor] | None = None

    def read(self, inputs: Inputs | None) -> Tensor:
        """:data:`NUMBERS` before an update.

        Args:
            inputs: What the layer was given in the step.
        """
        device = self._place.feeds[0].parameter.device if self._place.feeds else None
        numbers = torch.full((len(NUMBERS),), math.nan, device=device)
        feed = self._place.matrix
        rows = None if feed is None else rows_of(feed.parameter, feed, self._place)
        if rows is not None and rows.numel():
            numbers[:4] = self._weights(rows)
        if inputs is not None and inputs.features is not None:
            numbers[4:] = self._data(inputs.features)
        return numbers

    @staticmethod
    def _weights(rows: Tensor) -> Tensor:
        low, high = rows.amin(dim=0), rows.amax(dim=0)
        largest = torch.maximum(high.max(), -low.min()).clamp_min(torch.finfo(rows.dtype).tiny)
        rms = torch.linalg.vector_norm(rows).float() / math.sqrt(rows.numel())
        spreads = (high - low).max() / largest, (high.max() - low.min()) / largest
        fan_in = rms.new_tensor(rows.shape[1])
        return torch.stack([rms, fan_in, *(spread.float() for spread in spreads)])

    def _data(self, data: Features) -> Tensor:
        mean = data.total / data.count
        variance = (data.squares / data.count - mean.square()).clamp_min(0)
        low, high = self._ever(data)
        # Rounding leaves a little variance where nothing varies.
        deviation = torch.where(data.high > data.low, variance.sqrt(), 0.0)
        none = mean.new_full((), math.nan)
        smallest = torch.where(deviation > 0, deviation, math.inf).min()
        if self._first is None:
            self._first = (mean, deviation, data.count)
        return torch.stack(
            [
                mean.square().sum() / variance.sum(),
                (data.squares.sum() / (data.count * len(mean))).sqrt(),
                deviation.max() / smallest if len(mean) else none,
                (high == low).sum().to(mean.dtype),
                mean.new_tensor(len(mean)),
                self._shift(mean, data.count) if len(mean) else none,
            ]
        )

    def _ever(self, data: Features) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value of each feature in all exams so far."""
        low, high = data.low, data.high
        if self._extremes is not None and self._extremes[0].shape == low.shape:
            low = torch.minimum(low, self._extremes[0])
            high = torch.maximum(high, self._extremes[1])
        self._extremes = low, high
        return low, high

    def _shift(self, mean: Tensor, count: int) -> Tensor:
        """How far the means have moved: root mean square over the features that vary."""
        assert self._first is not None
        first, deviation, before = self._first
        if first.shape != mean.shape:
            return mean.new_full((), math.nan)
        moved = (mean - first) / torch.where(deviation > 0, deviation, math.inf)
        chance = _CHANCE * math.sqrt(1 / count + 1 / before)
        rms = moved.square().mean().sqrt()
        return torch.where(rms > chance, rms, torch.zeros_like(rms))

    @property
    def nbytes(self) -> int:
        """Memory held between exams, which only data that the layer reads take."""
        kept = (*(self._first or ())[:2], *(self._extremes or ()))
        return sum(one.nbytes for one in kept)
