"""The ATen operators that the tracer knows, sorted by what they do to units.

Names are those of the operator packets (``aten.relu_`` is ``"relu_"``); one entry stands for the
out-of-place and the in-place form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from flatline import activations
from flatline.activations import Activation

Args = Sequence[Any]
Kwargs = Mapping[str, Any]


def _get(args: Args, kwargs: Kwargs, place: int, name: str, default: Any) -> Any:
    value = args[place] if len(args) > place else kwargs.get(name, default)
    return default if value is None else value


def _clamp(args: Args, kwargs: Kwargs) -> Activation | None:
    low = _get(args, kwargs, 1, "min", -math.inf)
    high = _get(args, kwargs, 2, "max", math.inf)
    return _clipped(low, high)


def _clipped(low: Any, high: Any) -> Activation | None:
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None  # bounds that are tensors
    if high == math.inf:
        return activations.get("relu") if low == 0 else activations.get("threshold", low, low)
    return activations.get("hardtanh", float(low), float(high))


def _elu(args: Args, kwargs: Kwargs) -> Activation | None:
    alpha = float(_get(args, kwargs, 1, "alpha", 1.0))
    scale = float(_get(args, kwargs, 2, "scale", 1.0))
    inner = float(_get(args, kwargs, 3, "input_scale", 1.0))
    if scale == 1.0 and inner == 1.0:
        return activations.get("elu", alpha)
    if scale == 1.0 and math.isclose(inner * alpha, 1.0):
        return activations.get("celu", alpha)
    is_selu = math.isclose(scale, 1.0507009873554805) and math.isclose(alpha, 1.6732632423543772)
    return activations.get("selu") if is_selu else None


def _celu(args: Args, kwargs: Kwargs) -> Activation:
    return activations.get("celu", float(_get(args, kwargs, 1, "alpha", 1.0)))


def _gelu(args: Args, kwargs: Kwargs) -> Activation:
    tanh = kwargs.get("approximate", "none") == "tanh"
    return activations.get("gelu_tanh" if tanh else "gelu")


def _plain(name: str) -> Callable[[Args, Kwargs], Activation]:
    return lambda args, kwargs: activations.get(name)


def _with(name: str, *defaults: float) -> Callable[[Args, Kwargs], Activation]:
    def find(args: Args, kwargs: Kwargs) -> Activation:
        given = [float(value) for value in args[1 : 1 + len(defaults)]]
        return activations.get(name, *given, *defaults[len(given) :])

    return find


#: Nonlinearities: operator → its activation, from the call's arguments.
NONLINEAR: dict[str, Callable[[Args, Kwargs], Activation | None]] = {
    "relu": _plain("relu"),
    "relu6": _plain("relu6"),
    "hardtanh": lambda args, kwargs: _clipped(
        _get(args, kwargs, 1, "min_val", -1.0), _get(args, kwargs, 2, "max_val", 1.0)
    ),
    "leaky_relu": _with("leaky_relu", 0.01),
    "_prelu_kernel": _plain("prelu"),
    "rrelu_with_noise": lambda args, kwargs: activations.get("rrelu"),
    "elu": _elu,
    "celu": _celu,
    "selu": _plain("selu"),
    "gelu": _gelu,
    "silu": _plain("silu"),
    "mish": _plain("mish"),
    "softplus": _with("softplus", 1.0, 20.0),
    "sigmoid": _plain("sigmoid"),
    "hardsigmoid": _plain("hardsigmoid"),
    "hardswish": _plain("hardswish"),
    "tanh": _plain("tanh"),
    "threshold": _with("threshold", 0.0, 0.0),
    "clamp": _clamp,
    "clamp_min": lambda args, kwargs: _clipped(_get(args, kwargs, 1, "min", 0.0), math.inf),
    "clamp_max": lambda args, kwargs: _clipped(-math.inf, _get(args, kwargs, 1, "max", 0.0)),
}

#: Keep the logical order of the elements. Autograd detaches what it saves, so that alone is no use.
RESHAPING = frozenset(
    [
        "detach",
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "clone",
        "contiguous",
        "alias",
        "_to_copy",
        "unsqueeze",
        "squeeze",
        "lift_fresh",
        "lift_fresh_copy",
        "view_of",
        "flatten",
        "to",
        "nan_to_num",
        "fill_diagonal",
        "_conj",
    ]
)
#: Change sizes behind the unit axis, or the batch, and nothing else.
POOLING = frozenset(
    [
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "max_pool1d",
        "max_pool2d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "adaptive_avg_pool1d",
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "mkldnn_max_pool2d",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "_upsample_nearest_exact2d",
        "upsample_bilinear2d",
        "upsample_linear1d",
        "upsample_trilinear3d",
        "upsample_bicubic2d",
        "constant_pad_nd",
        "reflection_pad1d",
        "reflection_pad2d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
        "expand",
        "repeat",
    ]
)
#: Take one number from each group of elements along some dimensions.
REDUCING = frozenset(["mean", "sum", "amax", "amin", "max", "min", "logsumexp"])
#: End every label: what comes out no longer has one unit per entry.
ENDING = frozenset(
    [
        "_softmax",
        "_log_softmax",
        "as_strided",
        "cumsum",
        "sort",
        "topk",
        "argmax",
        "cross_entropy_loss",
        "nll_loss_forward",
        "nll_loss2d_forward",
        "mse_loss",
        "binary_cross_entropy",
    ]
)
#: Take each element from one of several tensors.
CHOOSING = frozenset(["where", "maximum", "minimum"])
#: New tensors of the same shape.
ALIKE = frozenset(
    [
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "rand_like",
        "randn_like",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new_full",
    ]
)
#: Elementwise with two operands.
ADDING = frozenset(["add", "sub", "rsub"])
SCALING = frozenset(["mul", "div"])

BATCH_NORMS = frozenset(
    [
        "native_batch_norm",
        "cudnn_batch_norm",
        "miopen_batch_norm",
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_no_training",
        "_batch_norm_with_update",
        "_batch_norm_with_update_functional",
        "batch_norm_with_update",
    ]
)


def base_name(name: str) -> str:
    """The out-of-place name of an operator.

    Example:
        >>> base_name("relu_"), base_name("__and__")
        ('relu', '__and__')
    """
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def tensors_of(args: Args, kwargs: Kwargs) -> list[Tensor]:
    """All tensors among the arguments, also inside lists."""
    found = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(item for item in value if isinstance(item, Tensor))
    return found
