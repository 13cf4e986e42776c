"""The ATen operators that the tracer knows, sorted by what they do to units.

One entry stands for the out-of-place and the in-place form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flatline import activations
from flatline.activations import Activation

Args = Sequence[Any]
Kwargs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an operator that was made.

    Attributes:
        op: The out-of-place name of the operator.
        args: Its arguments.
        kwargs: Its arguments by name.
        results: The tensors that it gave.
        pointwise: Each element of the result depends on the same element of the arguments alone.
        known: It is one of torch's own.
    """

    op: str
    args: Args
    kwargs: Kwargs
    results: list[Tensor]
    pointwise: bool = False
    known: bool = True

    @property
    def out(self) -> Tensor:
        """The first result."""
        return self.results[0]

    def get(self, place: int, name: str, default: Any) -> Any:
        """An argument by place or name; the default also where ``None`` was given."""
        return argument(self.args, self.kwargs, place, name, default)


def argument(args: Args, kwargs: Kwargs, place: int, name: str, default: Any) -> Any:
    """An argument by place or name; the default also where ``None`` was given."""
    value = args[place] if len(args) > place else kwargs.get(name, default)
    return default if value is None else value


def _number(bound: Any) -> float | None:
    """A bound as a number; ``None`` for one that differs between elements."""
    if isinstance(bound, Tensor):
        return float(bound) if bound.numel() == 1 and not bound.requires_grad else None
    return float(bound)


def _clipped(low: Any, high: Any) -> Activation | None:
    low, high = _number(low), _number(high)
    if low is None or high is None:
        return None
    if high == math.inf:
        return activations.get("relu") if low == 0 else activations.get("threshold", low, low)
    return activations.get("hardtanh", low, high)


def _clamp(args: Args, kwargs: Kwargs) -> Activation | None:
    low = argument(args, kwargs, 1, "min", -math.inf)
    return _clipped(low, argument(args, kwargs, 2, "max", math.inf))


def _hardtanh(args: Args, kwargs: Kwargs) -> Activation | None:
    low = argument(args, kwargs, 1, "min_val", -1.0)
    return _clipped(low, argument(args, kwargs, 2, "max_val", 1.0))


def _threshold(args: Args, kwargs: Kwargs) -> Activation:
    threshold = float(argument(args, kwargs, 1, "threshold", 0.0))
    value = float(argument(args, kwargs, 2, "value", 0.0))
    is_relu = threshold == value == 0.0
    return activations.get("relu") if is_relu else activations.get("threshold", threshold, value)


def _elu(args: Args, kwargs: Kwargs) -> Activation | None:
    alpha = float(argument(args, kwargs, 1, "alpha", 1.0))
    scale = float(argument(args, kwargs, 2, "scale", 1.0))
    inner = float(argument(args, kwargs, 3, "input_scale", 1.0))
    if scale == 1.0 and inner == 1.0:
        return activations.get("elu", alpha)
    if scale == 1.0 and math.isclose(inner * alpha, 1.0):
        return activations.get("celu", alpha)
    is_selu = math.isclose(scale, 1.0507009873554805) and math.isclose(alpha, 1.6732632423543772)
    return activations.get("selu") if is_selu else None


def _gelu(args: Args, kwargs: Kwargs) -> Activation:
    tanh = kwargs.get("approximate", "none") == "tanh"
    return activations.get("gelu_tanh" if tanh else "gelu")


def _rrelu(args: Args, kwargs: Kwargs) -> Activation:
    low = float(argument(args, kwargs, 2, "lower", 1 / 8))
    high = float(argument(args, kwargs, 3, "upper", 1 / 3))
    if argument(args, kwargs, 4, "training", False):
        return activations.get("rrelu", low, high)
    return activations.get("leaky_relu", (low + high) / 2)


def _plain(name: str) -> Callable[[Args, Kwargs], Activation]:
    return lambda args, kwargs: activations.get(name)


def _with(name: str, **defaults: float) -> Callable[[Args, Kwargs], Activation]:
    def find(args: Args, kwargs: Kwargs) -> Activation:
        given = [
            float(argument(args, kwargs, place, key, default))
            for place, (key, default) in enumerate(defaults.items(), 1)
        ]
        return activations.get(name, *given)

    return find


#: Nonlinearities: operator → its activation, from the call's arguments.
NONLINEAR: dict[str, Callable[[Args, Kwargs], Activation | None]] = {
    "relu": _plain("relu"),
    "relu6": _plain("relu6"),
    "hardtanh": _hardtanh,
    "leaky_relu": _with("leaky_relu", negative_slope=0.01),
    "_prelu_kernel": _plain("prelu"),
    "prelu": _plain("prelu"),
    "rrelu_with_noise": _rrelu,
    "elu": _elu,
    "celu": _with("celu", alpha=1.0),
    "selu": _plain("selu"),
    "gelu": _gelu,
    "silu": _plain("silu"),
    "mish": _plain("mish"),
    "softplus": _with("softplus", beta=1.0, threshold=20.0),
    "log_sigmoid_forward": _plain("logsigmoid"),
    "log_sigmoid": _plain("logsigmoid"),
    "sigmoid": _plain("sigmoid"),
    "special_expit": _plain("sigmoid"),
    "hardsigmoid": _plain("hardsigmoid"),
    "hardswish": _plain("hardswish"),
    "tanh": _plain("tanh"),
    "threshold": _threshold,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda args, kwargs: _clipped(argument(args, kwargs, 1, "min", 0.0), math.inf),
    "clamp_max": lambda args, kwargs: _clipped(-math.inf, argument(args, kwargs, 1, "max", 0.0)),
}
#: Nonlinearities that also serve as numerical guards: none where no layer made the input.
GUARDS = frozenset(["clamp", "clip", "clamp_min", "clamp_max"])
#: Functions of all units at once.
ACROSS = frozenset(["_softmax", "softmax"])

#: Keep the logical order of the elements.
RESHAPING = frozenset(
    [
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten"),
        *("clone", "contiguous", "alias", "detach", "view_of"),
        *("_to_copy", "to", "nan_to_num", "_conj", "positive"),
    ]
)
#: Round each element; the first result has the shape of the input.
ROUNDING = frozenset(
    [
        "fake_quantize_per_tensor_affine_cachemask",
        "fake_quantize_per_channel_affine_cachemask",
        "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
        "_fake_quantize_learnable_per_tensor_affine",
        "_fake_quantize_learnable_per_channel_affine",
        "_fused_moving_avg_obs_fq_helper",
    ]
)
#: Change the sizes of other dimensions than the unit axis, and nothing else.
POOLING = frozenset(
    [
        *("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
        *("mkldnn_max_pool2d", "mkldnn_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("adaptive_avg_pool1d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
        *("adaptive_max_pool2d", "adaptive_max_pool3d", "fractional_max_pool2d", "max_unpool2d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
        *("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
        *("grid_sampler_2d", "grid_sampler_3d"),
        *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
        *("expand", "repeat"),
    ]
)
#: Put elements elsewhere in a way that cannot be followed.
SCATTERING = frozenset(
    [
        *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
        *("as_strided", "diagonal", "rot90", "col2im", "take"),
    ]
)
#: Cut a tensor into several along one dimension.
SPLITTING = frozenset(
    [
        *("split", "split_with_sizes", "chunk", "tensor_split"),
        *("unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk"),
    ]
)
#: Take one number from each group of elements along some dimensions.
REDUCING = frozenset(
    [
        *("mean", "sum", "amax", "amin", "max", "min", "logsumexp", "prod", "median"),
        *("var", "std", "var_mean", "std_mean", "norm", "linalg_vector_norm"),
    ]
)
#: Those that pick the largest or smallest number.
PICKING = frozenset(["amax", "amin", "max", "min"])
#: Sums over elements.
SUMMING = frozenset(["mean", "sum"])
#: Take each element from one of several tensors.
CHOOSING = frozenset(["where", "maximum", "minimum", "max", "min"])
#: New tensors, some of them of the shape or number of another.
FRESH = frozenset(
    [
        *("lift_fresh", "bernoulli", "normal", "uniform", "exponential", "random", "zero", "fill"),
        *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
        *("randint_like", "new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided"),
    ]
)
#: Write one tensor into a part of another.
WRITING = frozenset(
    [
        *("copy", "index_put", "_index_put_impl", "index_add", "index_copy", "scatter"),
        *("scatter_add", "scatter_reduce", "slice_scatter", "select_scatter", "masked_scatter"),
    ]
)
#: Elementwise with two operands.
ADDING = frozenset(["add", "sub", "rsub"])
SCALING = frozenset(["mul", "div"])
#: Elementwise, although torch does not say so of some form of it.
_POINTWISE = frozenset(["masked_fill", "where", "log_sigmoid_forward", "hardswish"])

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


def base_name(func: Any) -> str:
    """The out-of-place name of an operator, without its name space and overload.

    Example:
        >>> base_name(torch.ops.aten.relu_.default), base_name(torch.ops.aten.__and__.Tensor)
        ('relu', '__and__')
    """
    name: str = func._schema.name.rpartition(":")[2]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def is_inplace(func: Any) -> bool:
    """Whether the operator writes its first argument and returns it.

    Example:
        >>> is_inplace(torch.ops.aten.relu_.default), is_inplace(torch.ops.aten.relu.default)
        (True, False)
    """
    name: str = func._schema.name
    return name.endswith("_") and not name.endswith("__")


def is_view(func: Any) -> bool:
    """Whether the results share the memory of an argument.

    Example:
        >>> is_view(torch.ops.aten.t.default), is_view(torch.ops.aten.clone.default)
        (True, False)
    """
    return any(result.alias_info is not None for result in func._schema.returns)


def keeps_layout(args: Args) -> bool:
    """Whether ``as_strided(*args)`` changes nothing but strides of dimensions of size 1."""
    x, size, stride = args[:3]
    same = zip(x.shape, x.stride(), stride, strict=False)
    return list(x.shape) == list(size) and all(n == 1 or a == b for n, a, b in same)


def is_pointwise(func: Any) -> bool:
    """Whether each element of the result depends on the same element of the arguments alone."""
    return torch.Tag.pointwise in func.tags or base_name(func) in _POINTWISE


def is_torchs_own(func: Any) -> bool:
    """Whether the operator is none of an extension."""
    name: str = func._schema.name
    return name.startswith(("aten::", "prims::", "quantized::", "c10d::", "_c10d_functional::"))


def is_drawn(func: Any) -> bool:
    """Whether the operator draws random numbers."""
    return torch.Tag.nondeterministic_seeded in func.tags


#: Whole layers in one operator → the nonlinearity inside, by the argument that chooses it.
_FUSED = {"_transformer_encoder_layer_fwd": "activation", "_native_multi_head_attention": ""}


def is_fused(op: str) -> str:
    """What is hidden inside an operator that runs a whole layer; ``""`` for any other.

    Example:
        >>> is_fused("_transformer_encoder_layer_fwd"), is_fused("addmm")
        ('activation', '')
    """
    return _FUSED.get(op, "")


def tensors_of(args: Args, kwargs: Kwargs) -> list[Tensor]:
    """All tensors among the arguments, also inside lists."""
    found = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(item for item in value if isinstance(item, Tensor))
    return found
