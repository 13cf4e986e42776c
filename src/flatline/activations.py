"""One table of nonlinearities: slope, dead zone, rails, and what each may be swapped for.

Everything a later room needs to judge a unit is an interval of its pre-activation z, so that no
room evaluates a slope while training runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

import numpy as np

from flatline import curves
from flatline.curves import INF, SLOPE_FLOOR, Array, Function, Interval
from flatline.errors import UnsupportedError

_EVERYWHERE: tuple[Interval, ...] = ((-INF, INF),)
_DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Activation:
    """A nonlinearity φ with its constants.

    Attributes:
        name: The field's name for it, as in ``torch.nn.functional``.
        constants: Its constants, in the order of the torch function.
        fires: Open intervals of z on which a unit fires: φ' ≠ 0 for a piecewise-linear φ, else
            ``|φ'|`` above 1 % of its maximum.
        rails: Intervals of z on which it is saturated; empty for a φ that does not saturate.
        pieces: Interior ends of the linear pieces; ``None`` where φ is not piecewise linear.
        flat: Outside ``fires`` the slope is exactly 0 although φ is not piecewise linear.
        monotone: φ never falls, so the range of h is φ of the range of z.
        zero_slope: Per dtype name, the ends ``(below, above)`` beyond which the slope is exactly 0
            in that precision: as PyTorch computes it for a dense tensor on a CPU, from a gradient
            of at most 1. Rounded outwards by less than 2 %, or one number of a half precision.
        swaps: Treatments that may replace it.
        function: φ on an array; ``None`` where h is not a function of z alone.
    """

    name: str
    constants: tuple[float, ...] = ()
    fires: tuple[Interval, ...] = _EVERYWHERE
    rails: tuple[Interval, ...] = ()
    pieces: tuple[float, ...] | None = None
    flat: bool = False
    monotone: bool = True
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
    def shows_z(self) -> bool:
        """Whether its pre-activation can be seen: a recurrent module gives out its outputs only."""
        return self.name not in _RECURRENT

    @property
    def can_die(self) -> bool:
        """Whether a unit can be silent, with a gradient of exactly 0 where and only where it is."""
        return (self.piecewise_linear or self.flat) and self.fires != _EVERYWHERE


_RELU_SWAPS = ("leaky_relu", "prelu", "elu", "gelu", "silu")
_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
_SIGMOID_SWAPS = ("leaky_relu", "elu", "gelu", "silu")


def _zero_slope(ends: Iterable[Interval]) -> MappingProxyType[str, Interval]:
    """Ends per dtype, given in the order of ``_DTYPES``."""
    return MappingProxyType(dict(zip(_DTYPES, ends, strict=True)))


def _alike(below: float, above: float) -> MappingProxyType[str, Interval]:
    """Ends that hold in every precision."""
    return _zero_slope([(below, above)] * len(_DTYPES))


def _below(*ends: float, scale: float = 1.0) -> MappingProxyType[str, Interval]:
    """Lower ends per dtype, in the order of ``_DTYPES``; no upper one."""
    return _zero_slope((end * scale, INF) for end in ends)


#: Where ``exp(z)`` is 0 in each precision, computed in float32 for the last two.
_EXP_IS_ZERO = (-745.2, -104.0, -93.0, -17.35)
_EXP_OVERFLOWS = (-709.9, -88.8, -88.9, -20.4)


def _relu() -> Activation:
    return Activation(
        "relu",
        fires=((0.0, INF),),
        pieces=(0.0,),
        zero_slope=_alike(0.0, INF),
        swaps=_RELU_SWAPS,
        function=lambda z: np.maximum(z, 0.0),
    )


def _hardtanh(low: float = -1.0, high: float = 1.0) -> Activation:
    # At 0 such a unit is off, like a ReLU, rather than saturated: only another end is a rail.
    is_relu6 = (low, high) == (0.0, 6.0)
    tails = ((-INF, low), (high, INF))
    return Activation(
        "relu6" if is_relu6 else "hardtanh",
        () if is_relu6 else (low, high),
        fires=((low, high),),
        rails=tuple(t for t in tails if t[0] != t[1] and 0.0 not in t),
        pieces=tuple(end for end in (low, high) if math.isfinite(end)),
        zero_slope=_alike(low, high),
        swaps=_RELU_SWAPS if low == 0.0 else _SIGMOID_SWAPS,
        function=lambda z: np.clip(z, low, high),
    )


def _leaky(slope: float = 0.01) -> Activation:
    return Activation(
        "leaky_relu",
        (slope,),
        fires=_EVERYWHERE if slope != 0 else ((0.0, INF),),
        pieces=(0.0,),
        monotone=slope >= 0,
        zero_slope=_alike(-INF if slope != 0 else 0.0, INF),
        function=lambda z: np.where(z > 0, z, slope * z),
    )


def _learned_or_drawn(name: str, *constants: float) -> Activation:
    """Leaky units whose slope is their own; it is 0 only by accident, so they always fire."""
    return Activation(name, constants, pieces=(0.0,), monotone=False, zero_slope=_alike(-INF, INF))


def _threshold(threshold: float = 0.0, value: float = 0.0) -> Activation:
    return Activation(
        "threshold",
        (threshold, value),
        fires=((threshold, INF),),
        pieces=(threshold,),
        monotone=value <= threshold,
        zero_slope=_alike(threshold, INF),
        swaps=_RELU_SWAPS,
        function=lambda z: np.where(z > threshold, z, value),
    )


def _elu(name: str, alpha: float, scale: float = 1.0, inner: float = 1.0) -> Activation:
    """``scale * z`` above 0 and ``scale * alpha * (exp(inner * z) - 1)`` below."""
    steepest = abs(scale * alpha * inner)  # just below 0
    floor = SLOPE_FLOOR * max(steepest, scale)
    falls = [math.log(floor / steepest) / inner] if steepest > floor else [0.0]
    end = INF if scale > floor else 0.0
    drop = max(0.0, math.log(steepest)) if steepest else 0.0  # halves round what float32 gave
    zero = [end - late * drop for end, late in zip(_EXP_IS_ZERO, (0, 0, 1, 1), strict=True)]
    return Activation(
        name,
        (alpha,) if name in ("elu", "celu") else (),
        fires=((falls[0], end),),
        rails=((-INF, falls[0]),),
        monotone=alpha >= 0,
        zero_slope=_below(*zero, scale=1 / inner),
        swaps=("gelu",),
        function=lambda z: scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0) * inner)),
    )


def _hardsigmoid() -> Activation:
    return Activation(
        "hardsigmoid",
        fires=((-3.0, 3.0),),
        rails=((-INF, -3.0), (3.0, INF)),
        pieces=(-3.0, 3.0),
        zero_slope=_alike(-3.0, 3.0),
        swaps=_SIGMOID_SWAPS,
        function=lambda z: np.clip(z / 6 + 0.5, 0.0, 1.0),
    )


def _softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    return Activation(
        "softplus",
        (beta, threshold),
        fires=tuple((low / beta, high / beta) for low, high in curves.steep(curves.softplus)),
        zero_slope=_below(*_EXP_IS_ZERO, scale=1 / beta),
        swaps=("gelu", "silu"),
        function=lambda z: curves.softplus(beta * z) / beta,
    )


def _logsigmoid() -> Activation:
    return Activation(
        "logsigmoid",
        fires=curves.steep(curves.logsigmoid),
        zero_slope=_zero_slope((-INF, -end) for end in _EXP_IS_ZERO),
        swaps=("gelu", "silu"),
        function=curves.logsigmoid,
    )


def _sigmoid() -> Activation:
    fires = curves.steep(curves.sigmoid)
    below = (-709.9, -88.8, -88.9, -17.35)
    return Activation(
        "sigmoid",
        fires=fires,
        rails=curves.beyond(fires),
        zero_slope=_zero_slope(zip(below, (36.8, 16.7, 6.24, 8.32), strict=True)),
        swaps=_SIGMOID_SWAPS,
        function=curves.sigmoid,
    )


def _odd(name: str, function: Function, *ends: float) -> Activation:
    """A smooth φ with two rails and ``φ(-z) = -φ(z)``."""
    fires = curves.steep(function)
    return Activation(
        name,
        fires=fires,
        rails=curves.beyond(fires),
        zero_slope=_zero_slope((-end, end) for end in ends),
        swaps=_SIGMOID_SWAPS,
        function=function,
    )


def _bump(name: str, function: Function, *below: float, swaps: tuple[str, ...]) -> Activation:
    """A smooth φ that falls a little before it rises."""
    return Activation(
        name,
        fires=curves.steep(function),
        monotone=False,
        zero_slope=_below(*below),
        swaps=swaps,
        function=function,
    )


def _relu2() -> Activation:
    return Activation(
        "relu2",
        fires=((0.0, INF),),
        flat=True,
        zero_slope=_alike(0.0, INF),
        swaps=_RELU_SWAPS,
        function=lambda z: np.maximum(z, 0.0) ** 2,
    )


def _recurrent(name: str) -> Activation:
    """A recurrent cell's output, judged by h: the slope of tanh is 1 − h²."""
    rail = math.sqrt(1 - SLOPE_FLOOR)
    return Activation(
        name,
        fires=((-rail, rail),),
        rails=((-INF, -rail), (rail, INF)),
        monotone=False,
    )


_TABLE: dict[str, Callable[..., Activation]] = {
    "relu": _relu,
    "hardtanh": _hardtanh,
    "relu6": lambda: _hardtanh(0.0, 6.0),
    "leaky_relu": _leaky,
    "prelu": lambda: _learned_or_drawn("prelu"),
    "rrelu": lambda low=1 / 8, high=1 / 3: _learned_or_drawn("rrelu", low, high),
    "threshold": _threshold,
    "elu": lambda alpha=1.0: _elu("elu", alpha),
    "selu": lambda: _elu("selu", 1.6732632423543772, 1.0507009873554805),
    "celu": lambda alpha=1.0: _elu("celu", alpha, 1.0, 1.0 / alpha),
    # A dense tensor on a CPU takes oneDNN's GELU. Other kernels lose the slope's last digits
    # later: float32 near -14.4.
    "gelu": lambda: _bump(
        "gelu", curves.gelu, -38.7, -6.16, -6.15, -6.0, swaps=("silu", "leaky_relu")
    ),
    "gelu_tanh": lambda: _bump(
        "gelu_tanh", curves.gelu_tanh, -7.21, -5.17, -5.18, -5.17, swaps=("silu", "leaky_relu")
    ),
    "quick_gelu": lambda: _bump(
        "quick_gelu", curves.quick_gelu, *(-417.2, -52.2, -52.3, -10.25), swaps=("gelu",)
    ),
    "silu": lambda: _bump("silu", curves.silu, *_EXP_OVERFLOWS, swaps=("gelu", "leaky_relu")),
    "mish": lambda: _bump(
        "mish", curves.mish, *(-745.2, -104.0, -93.0, -20.4), swaps=("gelu", "silu")
    ),
    "softplus": _softplus,
    "logsigmoid": _logsigmoid,
    "sigmoid": _sigmoid,
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda: _bump("hardswish", curves.hardswish, *[-3.0] * 4, swaps=("gelu", "silu")),
    "tanh": lambda: _odd("tanh", np.tanh, 19.1, 9.02, 3.46, 4.51),
    "softsign": lambda: _odd("softsign", curves.softsign, 2.0**54, 2.0**25, 2.0**9, 2.0**12),
    "relu2": _relu2,
    # Of recurrent cells z cannot be seen, so all intervals speak of h.
    "lstm": lambda: _recurrent("lstm"),
    "gru": lambda: _recurrent("gru"),
    "rnn_tanh": lambda: _recurrent("rnn_tanh"),
    "rnn_relu": lambda: Activation("rnn_relu", fires=((0.0, INF),), pieces=(0.0,), monotone=False),
    # A nonlinearity that was seen as one, whose formula is not in this table.
    "composite": lambda: Activation("composite", monotone=False),
}

#: Elementwise formulas that a composite (a module or an expression) may turn out to be.
COMPOSITES = (
    *("relu", "relu2", "elu", "selu", "gelu", "gelu_tanh", "quick_gelu", "silu", "mish"),
    *("hardswish", "softplus", "logsigmoid", "sigmoid", "hardsigmoid", "tanh", "softsign"),
)


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


@cache
def gated(activation: Activation) -> Activation:
    """The activation of a gated unit: its output is φ(z) times another linear map.

    Example:
        >>> gated(get("relu")).can_die, gated(get("relu")).piecewise_linear
        (True, False)
    """
    flat = activation.piecewise_linear or activation.flat
    return replace(activation, pieces=None, flat=flat, monotone=False, function=None)


def match(
    z: Array, h: Array, tolerance: float = 3e-6, among: Iterable[str] = COMPOSITES
) -> Activation | None:
    """The composite formula that explains ``h`` as a function of ``z``.

    Args:
        z: Pre-activations, any shape.
        h: Outputs, same shape.
        tolerance: Largest error that counts as the same, relative to ``|z| + |h|``; the default
            forgives rounding in single precision.
        among: The formulas that may be meant.

    Returns:
        The one entry that explains the numbers; the entry ``composite`` where none does; ``None``
        where the numbers cannot tell: several do, or a straight line.

    Example:
        >>> z = np.linspace(-3, 3, 50)
        >>> match(z, z / (1 + np.exp(-z))).name
        'silu'
        >>> match(z[z > 1], z[z > 1]) is None
        True
    """
    z, h = np.ravel(z).astype(np.float64), np.ravel(h).astype(np.float64)
    usable = np.isfinite(z) & np.isfinite(h)
    z, h = z[usable], h[usable]
    if not len(z):
        return None
    slack = tolerance * (np.abs(z) + np.abs(h)) + 1e-3 * tolerance

    def explains(fitted: Array) -> bool:
        return bool((np.abs(fitted - h) <= slack).all())

    found = [
        entry
        for entry in map(get, among)
        if entry.function is not None and explains(entry.function(z))
    ]
    if not found:
        return get("composite")
    line = np.stack([z, np.ones_like(z)], axis=1)
    straight = explains(line @ np.linalg.lstsq(line, h, rcond=None)[0])
    return None if straight or len(found) > 1 else found[0]
