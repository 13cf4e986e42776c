"""One table of nonlinearities: slope, dead zone, rails, and what each may be swapped for.

Everything a later room needs to judge a unit is an interval of its pre-activation z, so that no
room evaluates a slope while training runs. The intervals of smooth activations are found here,
numerically, from the slope itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from flatline.errors import UnsupportedError

Array = npt.NDArray[np.floating[Any]]
Function = Callable[[Array], Array]
Interval = tuple[float, float]

#: A unit of a smooth activation fires where its slope exceeds this share of the largest slope.
SLOPE_FLOOR = 0.01
_INF = math.inf
_EVERYWHERE: tuple[Interval, ...] = ((-_INF, _INF),)


@dataclass(frozen=True)
class Activation:
    """A nonlinearity φ with its constants.

    Attributes:
        name: The field's name for it, as in ``torch.nn.functional``.
        constants: Its constants, in the order of the torch function.
        fires: Open intervals of z on which a unit fires: φ' ≠ 0 for a piecewise-linear φ, else
            ``|φ'|`` above 1 % of its maximum.
        rails: Intervals of z on which it is saturated; empty for a φ that does not saturate.
        pieces: Interior ends of the linear pieces; ``None`` for a smooth φ.
        monotone: φ never falls, so the range of h is φ of the range of z.
        on_output: ``fires`` and ``rails`` speak of h, because z cannot be seen (recurrent cells).
        zero_slope: Per dtype name, the ends ``(below, above)`` beyond which the slope is exactly
            0 in that precision.
        swaps: Treatments that may replace it.
        function: φ on an array; ``None`` where h is not a function of z alone.
    """

    name: str
    constants: tuple[float, ...] = ()
    fires: tuple[Interval, ...] = _EVERYWHERE
    rails: tuple[Interval, ...] = ()
    pieces: tuple[float, ...] | None = None
    monotone: bool = True
    on_output: bool = False
    zero_slope: MappingProxyType[str, Interval] = field(
        default_factory=lambda: MappingProxyType({}), hash=False, compare=False
    )
    swaps: tuple[str, ...] = ()
    function: Function | None = field(default=None, compare=False, repr=False)

    @property
    def piecewise_linear(self) -> bool:
        """Whether φ consists of straight pieces."""
        return self.pieces is not None

    @property
    def can_die(self) -> bool:
        """Whether some z makes the gradient of the unit exactly 0 in exact arithmetic."""
        return self.piecewise_linear and self.fires != _EVERYWHERE


def _gelu(z: Array) -> Array:
    return np.asarray(0.5 * z * (1 + special.erf(z / math.sqrt(2))))


def _gelu_tanh(z: Array) -> Array:
    return np.asarray(0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))))


def _softplus(z: Array) -> Array:
    return np.logaddexp(0.0, z)


def _mish(z: Array) -> Array:
    return z * np.tanh(_softplus(z))


def _silu(z: Array) -> Array:
    return np.asarray(z * special.expit(z))


def _quick_gelu(z: Array) -> Array:
    return np.asarray(z * special.expit(1.702 * z))


def _slope(function: Function, z: Array) -> Array:
    """Central difference; exact to about 1e-10, far below the 1 % that it is compared with."""
    step = 1e-5
    return (function(z + step) - function(z - step)) / (2 * step)


def _steep(function: Function) -> tuple[Interval, ...]:
    """Intervals on which ``|φ'|`` exceeds 1 % of its maximum, to about 1e-9."""
    grid = np.linspace(-120.0, 120.0, 240_001)
    slope = np.abs(_slope(function, grid))
    floor = SLOPE_FLOOR * slope.max()

    def above(z: float) -> bool:
        return bool(abs(_slope(function, np.array([z]))[0]) > floor)

    steep = slope > floor
    ends = [-_INF] if steep[0] else []
    for i in np.flatnonzero(steep[1:] != steep[:-1]):
        low, high = float(grid[i]), float(grid[i + 1])
        inside = above(low)
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if above(middle) == inside else (low, middle)
        ends.append((low + high) / 2)
    if steep[-1]:
        ends.append(_INF)
    return tuple(zip(ends[::2], ends[1::2], strict=True))


def _beyond(intervals: tuple[Interval, ...], *, upper: bool = True) -> tuple[Interval, ...]:
    """The flat tails outside ``intervals``: the lower one, and the upper one when asked for."""
    tails = [(-_INF, intervals[0][0])]
    if upper:
        tails.append((intervals[-1][1], _INF))
    return tuple(tail for tail in tails if tail[0] != tail[1])


def _smooth(
    name: str,
    function: Function,
    *constants: float,
    rails: str = "none",
    zero_slope: dict[str, Interval] | None = None,
    swaps: tuple[str, ...] = (),
    monotone: bool = True,
) -> Activation:
    """A smooth activation; ``rails`` is ``"none"``, ``"both"`` or ``"lower"``."""
    fires = _steep(function)
    return Activation(
        name,
        constants,
        fires=fires,
        rails=() if rails == "none" else _beyond(fires, upper=rails == "both"),
        monotone=monotone,
        zero_slope=MappingProxyType(zero_slope or {}),
        swaps=swaps,
        function=function,
    )


_FLAT_BELOW_ZERO = dict.fromkeys(("float64", "float32", "bfloat16", "float16"), (0.0, _INF))
_RELU_SWAPS = ("leaky_relu", "prelu", "elu", "gelu", "silu")
_SIGMOID_SWAPS = ("leaky_relu", "elu", "gelu", "silu")


def _relu() -> Activation:
    return Activation(
        "relu",
        fires=((0.0, _INF),),
        pieces=(0.0,),
        zero_slope=MappingProxyType(_FLAT_BELOW_ZERO),
        swaps=_RELU_SWAPS,
        function=lambda z: np.maximum(z, 0.0),
    )


def _hardtanh(low: float = -1.0, high: float = 1.0) -> Activation:
    # Below 0 a ReLU6 is off rather than saturated: only its upper end is a rail.
    is_relu6 = (low, high) == (0.0, 6.0)
    upper = (high, _INF)
    return Activation(
        "relu6" if is_relu6 else "hardtanh",
        () if is_relu6 else (low, high),
        fires=((low, high),),
        rails=(upper,) if low == 0.0 else ((-_INF, low), upper),
        pieces=(low, high),
        zero_slope=MappingProxyType(dict.fromkeys(_FLAT_BELOW_ZERO, (low, high))),
        swaps=_RELU_SWAPS if low == 0.0 else _SIGMOID_SWAPS,
        function=lambda z: np.clip(z, low, high),
    )


def _leaky(name: str, slope: float) -> Activation:
    return Activation(
        name,
        (slope,),
        fires=_EVERYWHERE if slope != 0 else ((0.0, _INF),),
        pieces=(0.0,),
        monotone=slope >= 0,
        function=lambda z: np.where(z > 0, z, slope * z),
    )


def _threshold(threshold: float = 0.0, value: float = 0.0) -> Activation:
    return Activation(
        "threshold",
        (threshold, value),
        fires=((threshold, _INF),),
        pieces=(threshold,),
        monotone=value <= threshold,
        swaps=_RELU_SWAPS,
        function=lambda z: np.where(z > threshold, z, value),
    )


def _elu(name: str, alpha: float, scale: float = 1.0, input_scale: float = 1.0) -> Activation:
    def function(z: Array) -> Array:
        return scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0) * input_scale))

    constants = (alpha,) if name in ("elu", "celu") else ()
    zero = {"float16": (-17.4, _INF)}
    return _smooth(name, function, *constants, rails="lower", zero_slope=zero, swaps=("gelu",))


def _hardsigmoid() -> Activation:
    return Activation(
        "hardsigmoid",
        fires=((-3.0, 3.0),),
        rails=((-_INF, -3.0), (3.0, _INF)),
        pieces=(-3.0, 3.0),
        zero_slope=MappingProxyType(dict.fromkeys(_FLAT_BELOW_ZERO, (-3.0, 3.0))),
        swaps=_SIGMOID_SWAPS,
        function=lambda z: np.clip(z / 6 + 0.5, 0.0, 1.0),
    )


def _softplus_of(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    return _smooth(
        "softplus", lambda z: _softplus(beta * z) / beta, beta, threshold, swaps=("gelu", "silu")
    )


def _recurrent(name: str) -> Activation:
    """A recurrent cell's output, judged by h: the slope of tanh is 1 − h²."""
    rail = math.sqrt(1 - SLOPE_FLOOR)
    return Activation(
        name,
        fires=((-rail, rail),),
        rails=((-_INF, -rail), (rail, _INF)),
        monotone=False,
        on_output=True,
    )


_TABLE: dict[str, Callable[..., Activation]] = {
    "relu": _relu,
    "hardtanh": _hardtanh,
    "relu6": lambda: _hardtanh(0.0, 6.0),
    "leaky_relu": lambda slope=0.01: _leaky("leaky_relu", slope),
    # The slope of each unit is learned; it is 0 only by accident, so a PReLU always fires.
    "prelu": lambda: _leaky("prelu", 0.25),
    "rrelu": lambda low=1 / 8, high=1 / 3: _leaky("rrelu", (low + high) / 2),
    "threshold": _threshold,
    "elu": lambda alpha=1.0: _elu("elu", alpha),
    "selu": lambda: _elu("selu", 1.6732632423543772, 1.0507009873554805),
    "celu": lambda alpha=1.0: _elu("celu", alpha, 1.0, 1.0 / alpha),
    "gelu": lambda: _smooth(
        "gelu",
        _gelu,
        zero_slope={
            "float32": (-6.15, _INF),
            "bfloat16": (-6.17, _INF),
            "float16": (-6.05, _INF),
        },
        swaps=("silu", "leaky_relu"),
        monotone=False,
    ),
    "gelu_tanh": lambda: _smooth(
        "gelu_tanh",
        _gelu_tanh,
        zero_slope={
            "float64": (-7.16, _INF),
            "float32": (-5.07, _INF),
            "bfloat16": (-5.08, _INF),
            "float16": (-5.07, _INF),
        },
        swaps=("silu", "leaky_relu"),
        monotone=False,
    ),
    "quick_gelu": lambda: _smooth("quick_gelu", _quick_gelu, swaps=("gelu",), monotone=False),
    "silu": lambda: _smooth("silu", _silu, swaps=("gelu", "leaky_relu"), monotone=False),
    "mish": lambda: _smooth("mish", _mish, swaps=("gelu", "silu"), monotone=False),
    "softplus": _softplus_of,
    "sigmoid": lambda: _smooth(
        "sigmoid",
        special.expit,
        rails="both",
        zero_slope={"float16": (-17.4, 8.4)},
        swaps=_SIGMOID_SWAPS,
    ),
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda: Activation(
        "hardswish",
        fires=_steep(lambda z: z * np.clip(z / 6 + 0.5, 0.0, 1.0)),
        monotone=False,
        zero_slope=MappingProxyType(dict.fromkeys(_FLAT_BELOW_ZERO, (-3.0, _INF))),
        swaps=("gelu", "silu"),
        function=lambda z: z * np.clip(z / 6 + 0.5, 0.0, 1.0),
    ),
    "tanh": lambda: _smooth(
        "tanh",
        np.tanh,
        rails="both",
        zero_slope={
            "float64": (-19.1, 19.1),
            "float32": (-9.02, 9.02),
            "bfloat16": (-3.48, 3.48),
            "float16": (-4.52, 4.52),
        },
        swaps=_SIGMOID_SWAPS,
    ),
    "softsign": lambda: _smooth(
        "softsign", lambda z: z / (1 + np.abs(z)), rails="both", swaps=_SIGMOID_SWAPS
    ),
    "lstm": lambda: _recurrent("lstm"),
    "gru": lambda: _recurrent("gru"),
    "rnn_tanh": lambda: _recurrent("rnn_tanh"),
    "rnn_relu": lambda: Activation(
        "rnn_relu", fires=((0.0, _INF),), pieces=(0.0,), monotone=False, on_output=True
    ),
    # A nonlinearity that was seen as one, whose formula is not in this table.
    "composite": lambda: Activation("composite", monotone=False),
}

#: Elementwise formulas that a composite (a module or an expression) may turn out to be.
COMPOSITES = ("gelu_tanh", "gelu", "silu", "quick_gelu", "mish", "softsign", "hardswish", "relu")


def names() -> tuple[str, ...]:
    """Names of all activations in the table."""
    return tuple(_TABLE)


@cache
def get(name: str, *constants: float) -> Activation:
    """The activation of that name with these constants.

    Args:
        name: A name from :func:`names`.
        *constants: Its constants in the order of the torch function; the defaults when left out.

    Raises:
        UnsupportedError: When the table has no such activation.

    Example:
        >>> get("relu").fires
        ((0.0, inf),)
        >>> get("hardtanh", 0.0, 6.0).name
        'relu6'
    """
    if name not in _TABLE:
        raise UnsupportedError(f"expected an activation among {', '.join(_TABLE)}; found {name!r}")
    return _TABLE[name](*constants)


def match(z: Array, h: Array, tolerance: float = 2e-3) -> Activation:
    """The composite formula that explains ``h`` as a function of ``z``.

    Args:
        z: Pre-activations, any shape.
        h: Outputs, same shape.
        tolerance: Largest error, relative to the largest ``|h|``, that counts as the same.

    Returns:
        The best entry of ``COMPOSITES`` within the tolerance, else the entry ``composite``.

    Example:
        >>> z = np.linspace(-3, 3, 50)
        >>> match(z, z / (1 + np.exp(-z))).name
        'silu'
    """
    scale = float(np.abs(h).max(initial=0.0)) or 1.0
    errors = {}
    for name in COMPOSITES:
        function = get(name).function
        assert function is not None  # every composite is a formula
        errors[name] = float(np.abs(function(z) - h).max(initial=0.0)) / scale
    best = min(errors, key=errors.__getitem__)
    return get(best) if errors[best] <= tolerance else get("composite")
