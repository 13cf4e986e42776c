"""Whether a part of a model looks as if it had just been initialised.

A part that gets no update is there on purpose when it was trained before, and forgotten when it was
not; this tells the two apart without having seen the beginning. All matrices of a fresh part were
drawn by one recipe: their deviations follow from their shapes, uniform draws keep within their
bounds, and biases are 0 or small. Training changes all of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from torch import Tensor

#: Entries of a matrix that are needed, and that are looked at.
FEWEST, MOST = 64, 1 << 16
#: Standard errors within which a number counts as equal.
_ERRORS = 3.5
#: Fourth moment in squares of the second: of a uniform and of a normal draw.
_UNIFORM, _NORMAL = 1.8, 3.0
#: Deviations that are chosen whatever the shape of a layer.
_FIXED = (0.01, 0.02, 0.05, 1.0)


def looks_drawn(parameters: Iterable[Tensor]) -> bool:
    """Whether one usual recipe made all of these parameters.

    Too little is no evidence: a lone normal matrix with no bias beside it is not called drawn.

    Args:
        parameters: Matrices, kernels and vectors of one part of a model.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
        >>> looks_drawn(net.parameters())
        True
        >>> looks_drawn(parameter * 1.2 for parameter in net.parameters())
        False
    """
    parameters = list(parameters)
    matrices = [one for one in parameters if one.ndim > 1 and one.numel() >= FEWEST]
    if not matrices or not all(map(_is_fresh, (one for one in parameters if one.ndim == 1))):
        return False
    common = frozenset.intersection(*map(_recipes, matrices))
    zeros = any(one.ndim == 1 and not one.any() for one in parameters)
    enough = zeros or len(matrices) > 1 or any(name.startswith("uniform") for name in common)
    return bool(common) and enough


def _is_fresh(vector: Tensor) -> bool:
    """Whether a bias or a scale may not have been trained yet: constant, or spread evenly."""
    values = _values(vector)
    if (values == values[0]).all():
        return True
    square = float(np.mean(values**2))
    even = float(np.mean(values**4)) / square**2 - _UNIFORM
    return abs(even) <= _ERRORS * math.sqrt(5 / len(values))


def _recipes(weight: Tensor) -> frozenset[str]:
    """The recipes that may have drawn a matrix or kernel."""
    values = _values(weight)
    square = float(np.mean(values**2))
    if not math.isfinite(square) or square == 0:
        return frozenset()
    shape, rms, count = float(np.mean(values**4)) / square**2, math.sqrt(square), len(values)
    found = set()
    for kind, usual, error in (("uniform", _UNIFORM, 3.3), ("normal", _NORMAL, 24.0)):
        if abs(shape - usual) > _ERRORS * math.sqrt(error / count):
            continue
        slack = _ERRORS * math.sqrt((usual - 1) / (4 * count))
        for name, deviation in _deviations(weight).items():
            fits = abs(rms / deviation - 1) <= slack
            if kind == "uniform":  # which never leaves its bounds
                fits &= float(np.abs(values).max()) <= math.sqrt(3) * deviation * (1 + 1e-6)
            if fits:
                found.add(f"{kind} {name}")
    return frozenset(found)


def _deviations(weight: Tensor) -> dict[str, float]:
    """Standard deviations that the usual recipes give a weight of this shape."""
    inner = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * inner, weight.shape[0] * inner
    glorot = math.sqrt(2 / (fan_in + fan_out))
    return {
        "torch": 1 / math.sqrt(3 * fan_in),
        "lecun": 1 / math.sqrt(fan_in),
        "he": math.sqrt(2 / fan_in),
        "he fan-out": math.sqrt(2 / fan_out),
        "glorot": glorot,
        "glorot for tanh": 5 / 3 * glorot,
        "orthogonal": 1 / math.sqrt(max(fan_in, fan_out)),
        **{str(deviation): deviation for deviation in _FIXED},
        **{f"±{bound}": bound / math.sqrt(3) for bound in _FIXED},
    }


def _values(tensor: Tensor) -> npt.NDArray[np.float64]:
    flat = tensor.detach().reshape(-1)
    return flat[:: -(-len(flat) // MOST)].double().cpu().numpy()
