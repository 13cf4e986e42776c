"""The table of nonlinearities against torch: autograd for slopes, forward and backward for zeros.

``zero_slope`` is conservative (beyond it every gradient is exactly 0) and tight (a little inside
it some gradient is not) on the kernels of a dense tensor on a CPU.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flatline import activations
from flatline.errors import UnsupportedError

INF = math.inf

#: Each entry of the table beside the function of torch that it describes.
TORCH = [
    pytest.param(("relu",), F.relu, id="relu"),
    pytest.param(("relu6",), F.relu6, id="relu6"),
    pytest.param(("hardtanh",), F.hardtanh, id="hardtanh"),
    pytest.param(("hardtanh", -2.0, 0.5), lambda z: F.hardtanh(z, -2, 0.5), id="hardtanh-2-0.5"),
    pytest.param(("hardtanh", 0.0, 1.0), lambda z: z.clamp(0, 1), id="clamp-0-1"),
    pytest.param(("hardtanh", -INF, 0.0), lambda z: z.clamp(max=0), id="clamp-max-0"),
    pytest.param(("hardtanh", -INF, 2.0), lambda z: z.clamp(max=2), id="clamp-max-2"),
    pytest.param(("leaky_relu",), F.leaky_relu, id="leaky_relu"),
    pytest.param(("leaky_relu", 0.3), lambda z: F.leaky_relu(z, 0.3), id="leaky_relu-0.3"),
    pytest.param(("leaky_relu", -0.5), lambda z: F.leaky_relu(z, -0.5), id="leaky_relu--0.5"),
    pytest.param(("leaky_relu", 0.0), lambda z: F.leaky_relu(z, 0.0), id="leaky_relu-0"),
    pytest.param(("threshold",), lambda z: F.threshold(z, 0, 0), id="threshold"),
    pytest.param(("threshold", 0.5, -2.0), lambda z: F.threshold(z, 0.5, -2), id="threshold-low"),
    pytest.param(("threshold", -1.0, 3.0), lambda z: F.threshold(z, -1, 3), id="threshold-high"),
    pytest.param(("threshold", -1.0, -1.0), lambda z: z.clamp(min=-1), id="clamp-min--1"),
    pytest.param(("elu",), F.elu, id="elu"),
    pytest.param(("elu", 0.3), lambda z: F.elu(z, 0.3), id="elu-0.3"),
    pytest.param(("elu", 5.0), lambda z: F.elu(z, 5.0), id="elu-5"),
    pytest.param(("elu", 500.0), lambda z: F.elu(z, 500.0), id="elu-500"),
    pytest.param(("elu", 0.001), lambda z: F.elu(z, 0.001), id="elu-0.001"),
    pytest.param(("elu", -0.5), lambda z: F.elu(z, -0.5), id="elu--0.5"),
    pytest.param(("selu",), F.selu, id="selu"),
    pytest.param(("celu",), F.celu, id="celu"),
    pytest.param(("celu", 2.0), lambda z: F.celu(z, 2.0), id="celu-2"),
    pytest.param(("celu", 100.0), lambda z: F.celu(z, 100.0), id="celu-100"),
    pytest.param(("celu", 0.1), lambda z: F.celu(z, 0.1), id="celu-0.1"),
    pytest.param(("gelu",), F.gelu, id="gelu"),
    pytest.param(("gelu_tanh",), lambda z: F.gelu(z, approximate="tanh"), id="gelu_tanh"),
    pytest.param(("quick_gelu",), lambda z: z * torch.sigmoid(1.702 * z), id="quick_gelu"),
    pytest.param(("silu",), F.silu, id="silu"),
    pytest.param(("mish",), F.mish, id="mish"),
    pytest.param(("softplus",), F.softplus, id="softplus"),
    pytest.param(("softplus", 3.0, 20.0), lambda z: F.softplus(z, 3), id="softplus-3"),
    pytest.param(("softplus", 0.02, 20.0), lambda z: F.softplus(z, 0.02), id="softplus-0.02"),
    pytest.param(("softplus", 90.0, 20.0), lambda z: F.softplus(z, 90), id="softplus-90"),
    pytest.param(("logsigmoid",), F.logsigmoid, id="logsigmoid"),
    pytest.param(("sigmoid",), torch.sigmoid, id="sigmoid"),
    pytest.param(("hardsigmoid",), F.hardsigmoid, id="hardsigmoid"),
    pytest.param(("hardswish",), F.hardswish, id="hardswish"),
    pytest.param(("tanh",), torch.tanh, id="tanh"),
    pytest.param(("softsign",), F.softsign, id="softsign"),
    pytest.param(("relu2",), lambda z: F.relu(z) ** 2, id="relu2"),
]
#: Entries whose output is no function of z alone, or whose z is out of sight.
WITHOUT_FORMULA = {"prelu", "rrelu", "lstm", "gru", "rnn_tanh", "rnn_relu", "composite"}
#: With other constants the ends of a smooth activation are only conservative.
SMOOTH = ("elu", "celu", "softplus")
TIGHT = [p for p in TORCH if p.values[0][0] not in SMOOTH or not p.values[0][1:]]
everything = pytest.mark.parametrize(("which", "function"), TORCH)


def differentiate(function, z):
    """φ and φ' by torch."""
    z = z.clone().requires_grad_()
    h = function(z)
    return h.detach(), torch.autograd.grad(h, z, torch.ones_like(h))[0]


def fine_grid(activation):
    """Float64 grid, finest around 0 and around every end that the table names."""
    ends = [end for interval in activation.fires + activation.rails for end in interval]
    ends += activation.pieces or ()
    near = np.append(np.linspace(-1e-3, 1e-3, 2_000), 0.0)
    around = [end + near for end in {*ends, 0.0} if math.isfinite(end)]
    reach = max([30.0, *(4 * abs(end) for end in ends if math.isfinite(end))])
    return np.unique(np.concatenate([np.linspace(-reach, reach, 200_001), *around]))


def inside(intervals, z):
    found = np.zeros(z.shape, bool)
    for low, high in intervals:
        found |= (z > low) & (z < high)
    return found


def far_from(intervals, z, distance):
    """Where no end of an interval is nearer than ``distance``."""
    ends = [end for interval in intervals for end in interval if math.isfinite(end)]
    return np.all([np.abs(z - end) > distance * max(1, abs(end)) for end in ends], axis=0) | (
        not ends
    )


def test_every_entry_is_compared_with_torch_or_has_no_formula():
    compared = {param.values[0][0] for param in TORCH}
    assert compared | WITHOUT_FORMULA == {*activations.names()}
    assert not compared & WITHOUT_FORMULA


@everything
def test_the_formula_is_that_of_torch(which, function):
    activation = activations.get(*which)
    z = fine_grid(activation)
    h, _ = differentiate(function, torch.from_numpy(z))
    assert np.abs(activation.function(z) - h.numpy()).max() <= 1e-8 * max(1, np.abs(z).max())


@everything
def test_a_unit_fires_where_autograd_says_so(which, function):
    activation = activations.get(*which)
    z = fine_grid(activation)
    slope = np.abs(differentiate(function, torch.from_numpy(z))[1].numpy())
    if activation.piecewise_linear or activation.flat:
        fires, distance = slope != 0, 0.0
    else:
        fires, distance = slope > 0.01 * slope.max(), 1e-5
    sure = far_from(activation.fires, z, distance)
    np.testing.assert_array_equal(inside(activation.fires, z)[sure], fires[sure])


@everything
def test_on_a_rail_the_slope_is_below_one_per_cent(which, function):
    activation = activations.get(*which)
    z = fine_grid(activation)
    slope = np.abs(differentiate(function, torch.from_numpy(z))[1].numpy())
    railed = inside(activation.rails, z) & far_from(activation.rails, z, 1e-5)
    assert (slope[railed] <= 0.01 * slope.max()).all()


def test_rails_are_the_flat_ends_of_activations_that_saturate():
    def tails(*which):
        low, high = False, False
        for start, end in activations.get(*which).rails:
            low |= start == -INF
            high |= end == INF
        return low, high

    for name in ("sigmoid", "tanh", "softsign", "hardsigmoid", "hardtanh", "lstm", "gru"):
        assert tails(name) == (True, True), name
    for name in ("elu", "selu", "celu"):
        assert tails(name) == (True, False), name
    # Off, like a ReLU, is no saturation: only the end that is not 0 is a rail.
    assert tails("relu6") == tails("hardtanh", 0.0, 1.0) == (False, True)
    assert tails("hardtanh", -INF, 2.0) == (False, True)
    assert tails("hardtanh", -INF, 0.0) == (False, False)
    for name in ("relu", "leaky_relu", "gelu", "silu", "mish", "softplus", "hardswish", "relu2"):
        assert tails(name) == (False, False), name


@everything
def test_between_two_ends_of_pieces_the_slope_is_constant(which, function):
    activation = activations.get(*which)
    z = fine_grid(activation)
    slope = differentiate(function, torch.from_numpy(z))[1].numpy()
    if activation.pieces is None:
        # Nothing that bends may claim to be straight, and nothing straight may hide it.
        assert len(np.unique(np.round(slope, 6))) > 5
        return
    for low, high in itertools.pairwise((-INF, *activation.pieces, INF)):
        piece = slope[(z > low) & (z < high)]
        assert np.ptp(piece) <= 1e-12
    jumps = [slope[z < end][-1] != slope[z > end][0] for end in activation.pieces]
    assert all(jumps), "an end between two equal pieces"


@everything
def test_a_monotone_activation_never_falls_and_another_does(which, function):
    activation = activations.get(*which)
    h = differentiate(function, torch.from_numpy(fine_grid(activation)))[0].numpy()
    assert activation.monotone == bool((np.diff(h) >= -1e-12 * np.abs(h).max()).all())


@everything
def test_a_unit_can_die_exactly_where_silence_and_a_zero_gradient_are_one(which, function):
    activation = activations.get(*which)
    z = fine_grid(activation)
    slope = differentiate(function, torch.from_numpy(z))[1].numpy()
    # ELU and the like underflow only far outside of the grid.
    same = ((slope != 0) == inside(activation.fires, z))[far_from(activation.fires, z, 0.0)]
    assert activation.can_die == (same.all() and not (slope != 0).all())


def test_nobody_dies_of_a_slope_that_is_learned_or_drawn():
    assert not activations.get("prelu").can_die
    assert not activations.get("rrelu").can_die
    assert activations.get("rnn_relu").can_die


@pytest.mark.parametrize("name", sorted(WITHOUT_FORMULA))
def test_where_h_is_no_function_of_z_there_is_no_formula(name):
    activation = activations.get(name)
    assert activation.function is None
    assert not activation.monotone


# Zeros in each precision


def every_number(dtype):
    """All finite numbers of a half precision, in order."""
    numbers = torch.from_numpy(np.arange(1 << 16, dtype=np.uint16).view(np.int16)).view(dtype)
    return numbers[torch.isfinite(numbers)].sort().values


def dense_grid(dtype, ends):
    """Numbers beyond, around and inside the ends of the zone that is claimed to be flat."""
    if dtype.itemsize == 2:
        numbers = every_number(dtype)
        return numbers[numbers.abs() < 1e18]
    finite = [end for end in ends if math.isfinite(end)]
    largest = 18  # beyond, torch's own gelu_tanh overflows to NaN
    parts = [np.linspace(-120, 120, 40_001), np.logspace(0, largest, 4_000)]
    parts += [-np.logspace(0, largest, 4_000)]
    # Slopes vanish gradually, so a step of a thousandth of the end misses nothing.
    parts += [end + np.linspace(-0.05, 0.05, 60_001) * max(1, abs(end)) for end in finite]
    return torch.from_numpy(np.unique(np.concatenate(parts))).to(dtype)


DTYPES = ("float64", "float32", "bfloat16", "float16")


@pytest.mark.parametrize("dtype", DTYPES)
@everything
def test_beyond_zero_slope_every_gradient_is_exactly_zero(which, function, dtype):
    below, above = activations.get(*which).zero_slope[dtype]
    z = dense_grid(getattr(torch, dtype), (below, above))
    z = z[(z < below) | (z > above)]
    assert len(z) > 100 or (below, above) == (-INF, INF)
    if len(z):
        slope = differentiate(function, z)[1]
        assert not torch.isnan(slope).any()
        beyond = z[slope != 0]
        assert not len(beyond), f"slope at {beyond.min()} to {beyond.max()}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("which", "function"), TIGHT)
def test_just_inside_zero_slope_some_gradient_is_not_zero(which, function, dtype):
    below, above = activations.get(*which).zero_slope[dtype]
    z = dense_grid(getattr(torch, dtype), (below, above))
    for end, sign in ((below, 1), (above, -1)):
        if math.isinf(end):
            continue
        inner = z[(z - end) * sign > 0].sort(descending=sign < 0).values
        near = inner[((inner - end).abs() <= 0.02 * max(abs(end), 1))]
        near = near if len(near) else inner[:1]  # one number of a half precision
        assert (differentiate(function, near)[1] != 0).any()


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    constant=st.floats(1e-3, 1e3).filter(lambda value: value > 0),
    kind=st.sampled_from(["elu", "celu", "softplus"]),
)
@settings(max_examples=30, deadline=None)
def test_zero_slope_holds_for_any_constant(dtype, constant, kind):
    function = {
        "elu": lambda z: F.elu(z, constant),
        "celu": lambda z: F.celu(z, constant),
        "softplus": lambda z: F.softplus(z, constant),
    }[kind]
    constants = (constant, 20.0) if kind == "softplus" else (constant,)
    below, above = activations.get(kind, *constants).zero_slope[dtype]
    assert above == INF
    z = torch.from_numpy(below * np.linspace(1.0001, 1.2, 4_000)).to(getattr(torch, dtype))
    z = z[(z < below) & torch.isfinite(z)]
    assert (differentiate(function, z)[1] == 0).all()


def test_the_dead_zone_of_gelu_is_that_of_the_kernel_for_dense_tensors():
    """Elsewhere the last digits of the slope survive for longer: the table says so."""
    z = torch.full((8, 64), -8.0)
    assert (differentiate(F.gelu, z)[1] == 0).all()
    assert activations.get("gelu").zero_slope["float32"][0] == pytest.approx(-6.15, abs=0.02)
    transposed = torch.full((64, 8), -8.0).t()
    assert differentiate(F.gelu, transposed)[1].abs().max() < 1e-13
    assert (differentiate(F.gelu, transposed - 7)[1] == 0).all()


# Looking up


def test_a_relu6_is_the_same_whatever_it_is_called():
    assert activations.get("relu6") == activations.get("hardtanh", 0.0, 6.0)
    assert activations.get("relu6") != activations.get("hardtanh", 0.0, 1.0)


def test_an_unknown_name_is_refused_with_all_that_are_known():
    with pytest.raises(UnsupportedError, match="found 'rellu'") as caught:
        activations.get("rellu")
    assert "leaky_relu" in str(caught.value)


@pytest.mark.parametrize("name", activations.names())
def test_a_gated_unit_keeps_when_it_fires_and_loses_its_formula(name):
    plain = activations.get(name)
    gated = activations.gated(plain)
    assert (gated.name, gated.fires, gated.rails) == (plain.name, plain.fires, plain.rails)
    assert gated.can_die == plain.can_die
    assert gated.function is None
    assert not gated.monotone
    assert gated.pieces is None


def test_every_swap_is_an_activation_of_the_table():
    for name in activations.names():
        assert {*activations.get(name).swaps} <= {*activations.names()} - {name}


# Recognising composites

Z = np.random.default_rng(0).normal(size=400) * 3


@pytest.mark.parametrize("name", activations.COMPOSITES)
@pytest.mark.parametrize("spread", [0.3, 1.0, 10.0], ids="spread={}".format)
def test_each_composite_is_recognised_from_its_numbers(name, spread):
    h = activations.get(name).function(Z * spread)
    assert activations.match(Z * spread, h).name == name
    single = (Z * spread).astype(np.float32), h.astype(np.float32)
    assert activations.match(*single).name == name


@pytest.mark.parametrize(
    "formula",
    [
        pytest.param(lambda z: z * np.tanh(z), id="z tanh z"),
        pytest.param(lambda z: np.where(z > 0, z, 0.1 * z), id="leaky"),
        pytest.param(lambda z: np.abs(z), id="abs"),
        pytest.param(np.sin, id="sin"),
        pytest.param(lambda z: z**2, id="square"),
        pytest.param(lambda z: z + np.sin(z) ** 2, id="snake"),
        pytest.param(lambda z: z - np.tanh(z), id="tanhshrink"),
        pytest.param(lambda z: z / (1 + np.exp(-1.7 * z)), id="almost quick gelu"),
        pytest.param(
            lambda z: 0.5 * z * (1 + np.tanh(0.8 * (z + 0.0447 * z**3))), id="almost gelu"
        ),
        pytest.param(lambda z: np.maximum(z, 0) ** 3, id="cubed relu"),
        pytest.param(lambda z: 1.7159 * np.tanh(2 / 3 * z), id="LeCun's tanh"),
        pytest.param(lambda z: np.maximum(z, 0) * 1.0001, id="almost relu"),
        pytest.param(lambda z: np.exp(-(z**2)), id="gauss"),
        pytest.param(lambda z: np.log1p(np.abs(z)) * np.sign(z), id="symlog"),
    ],
)
def test_another_formula_is_not_taken_for_one_of_the_table(formula):
    assert activations.match(Z, formula(Z)).name == "composite"


@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_random_formulas_are_not_recognised(weights, kind):
    a, b, c, d = weights
    bases = [np.sin, np.tanh, lambda z: 1 / (1 + np.exp(-z)), lambda z: np.maximum(z, 0)]
    h = a + b * Z + c * bases[kind](Z) + d * Z * bases[(kind + 1) % 4](0.9 * Z)
    found = activations.match(Z, h)
    if found is None:
        return  # a straight line
    if found.name != "composite":  # then it is the very formula
        assert (np.abs(found.function(Z) - h) <= 1e-5 * (np.abs(Z) + np.abs(h) + 1e-3)).all()


@pytest.mark.parametrize(
    "z",
    [
        pytest.param(np.linspace(0.1, 2, 50), id="only above 0: a straight line"),
        pytest.param(np.linspace(-90, -60, 50), id="dead: nothing but zeros"),
        pytest.param(np.full(50, 3.0), id="one number again and again"),
        pytest.param(np.zeros(0), id="no number"),
        pytest.param(np.full(9, np.nan), id="no finite number"),
    ],
)
def test_numbers_that_cannot_tell_give_no_name(z):
    assert activations.match(z, np.maximum(z, 0)) is None


def test_where_two_formulas_explain_the_numbers_neither_is_named():
    z = np.linspace(-1e-3, 1e-3, 100)
    h = activations.get("gelu").function(z)
    assert activations.match(z, h) is None
    assert activations.match(z, h, among=["gelu", "tanh"]).name == "gelu"


def test_rounding_of_half_precision_is_forgiven_when_asked():
    h = activations.get("silu").function(Z)
    rounded = torch.from_numpy(h).bfloat16().double().numpy()
    assert activations.match(Z, rounded).name == "composite"
    assert activations.match(Z, rounded, tolerance=1e-2).name == "silu"
