"""The registry of treatments: their names, values, grounds and sources. It needs no torch.

A row says everything about a treatment but how it is carried out, which is the part of the module
named in ``home``; see :mod:`flatline.treatments.plan`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flatline.errors import UsageError


@dataclass(frozen=True)
class Method:
    """A row of the registry: a kind of treatment.

    Attributes:
        name: What stands before the equals sign.
        values: The values it takes, as they are listed for a person.
        examples: Some of them, spelled out.
        read: Makes the value from its text; raises ``ValueError`` where it is none.
        findings: Codes of the findings it is a candidate for.
        source: Where the method was published.
        refused: When it does not apply.
        home: The module that carries it out.
    """

    name: str
    values: str
    examples: tuple[str, ...]
    read: Callable[[str], Any]
    findings: tuple[str, ...]
    source: str
    refused: str
    home: str


@dataclass(frozen=True)
class Treatment:
    """A treatment with its value, written ``name=value``.

    Attributes:
        method: Its row of the registry.
        text: The value as it was given.
        value: The value as it is used.
    """

    method: Method
    text: str
    value: Any

    @property
    def name(self) -> str:
        """The name of its method."""
        return self.method.name

    def __str__(self) -> str:
        return f"{self.name}={self.text}"


def _one_of(*options: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in options:
            raise ValueError(text)
        return text

    return read


def _number(text: str, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number above ``low`` and at most ``high``."""
    number = float(text)
    if not (low < number <= high and math.isfinite(number)):
        raise ValueError(text)
    return number


def _clip(text: str) -> tuple[str, float]:
    kind, _, limit = text.partition(":")
    if kind not in ("norm", "value", "agc", "auto"):
        raise ValueError(text)
    return kind, _number(limit, high=100.0 if kind == "auto" else math.inf)


def _factor(text: str) -> float:
    if not text.startswith("x"):
        raise ValueError(text)
    return _number(text[1:])


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ValueError(text)
    return int(text)


def _decay(text: str) -> float:
    number = float(text)
    return number if number == 0 else _number(text)


_INIT = ("he", "xavier", "lsuv", "orthogonal", "asymmetric")
_ACTIVATIONS = ("leaky_relu", "prelu", "elu", "gelu", "silu")
_BENDS = ("relu", "leaky_relu", "elu", "gelu", "silu")
_NORMS = ("batch", "layer", "batch:standard")
_OUTPUTS = ("identity", "sigmoid", "softmax", "log_softmax", "squeeze")

#: In the order in which they are carried out, whatever the order in which they were given: what
#: changes the layers comes before what sets their weights, and both before what is measured.
METHODS = (
    Method(
        "output",
        "|".join(_OUTPUTS),
        _OUTPUTS,
        _one_of(*_OUTPUTS),
        ("output-activation", "no-learning", "learning-rate-too-low"),
        "Goodfellow et al. 2016, section 6.2.2: the output unit follows from the loss",
        "the model's output is no tensor, or its last nonlinearity cannot be reached",
        "flatline.treatments.outputs",
    ),
    Method(
        "nonlinearity",
        "|".join(_BENDS),
        _BENDS,
        _one_of(*_BENDS),
        ("missing-nonlinearity",),
        "Goodfellow et al. 2016, section 6: a stack of linear maps is one linear map",
        "no two linear maps follow each other with nothing between",
        "flatline.treatments.bends",
    ),
    Method(
        "activation",
        "|".join(_ACTIVATIONS),
        _ACTIVATIONS,
        _one_of(*_ACTIVATIONS),
        ("dying-relu", "born-dead", "saturation", "vanishing-gradient", "upstream-death"),
        "Maas et al. 2013 (leaky), He et al. 2015 (PReLU), Clevert et al. 2016 (ELU), "
        "Hendrycks and Gimpel 2016 (GELU), Elfwing et al. 2018 (SiLU)",
        "no nonlinearity of the model may be swapped for it, or none is a call that can be reached",
        "flatline.treatments.swaps",
    ),
    Method(
        "floor",
        "LEAST",
        ("1e-12",),
        _number,
        ("non-finite",),
        "Goodfellow et al. 2016, section 4.1: underflow, and the logarithm of 0",
        "it changes nothing where the program calls neither torch.log nor torch.sqrt",
        "flatline.treatments.floor",
    ),
    Method(
        "nan_to_num",
        "input",
        ("input",),
        _one_of("input"),
        ("non-finite",),
        "Little and Rubin 2002, chapter 4: the mean, which is 0 once features are standardised",
        "the model's input is not one tensor of real numbers",
        "flatline.treatments.inputs",
    ),
    Method(
        "standardize",
        "input",
        ("input",),
        _one_of("input"),
        ("unscaled-input", "born-dead", "no-learning"),
        "LeCun et al. 1998, Efficient BackProp",
        "the model's input is not one tensor of real numbers",
        "flatline.treatments.inputs",
    ),
    Method(
        "widen",
        "UNITS",
        ("64",),
        _count,
        ("rank-collapse", "born-dead"),
        "Chen et al. 2016 (Net2Net): wider layers that compute the same",
        "the weights were trained already, or more than the next layers depends on the width",
        "flatline.treatments.widen",
    ),
    Method(
        "init",
        "|".join(_INIT),
        _INIT,
        _one_of(*_INIT),
        (
            *("zero-init", "init-too-small", "init-too-large", "born-dead", "vanishing-gradient"),
            *("exploding-gradient", "saturation", "duplicate-units", "rank-collapse"),
            "non-finite",
        ),
        "He et al. 2015, Glorot and Bengio 2010, Mishkin and Matas 2016 (LSUV), Saxe et al. 2014 "
        "(orthogonal), Lu et al. 2020 (asymmetric)",
        "the weights were loaded or trained already, or no linear or convolutional layer has any",
        "flatline.treatments.initialise",
    ),
    Method(
        "norm",
        "|".join(_NORMS),
        _NORMS,
        _one_of(*_NORMS),
        (
            *("vanishing-gradient", "saturation", "unscaled-input", "init-too-small"),
            *("init-too-large", "dying-relu", "rank-collapse", "born-dead", "upstream-death"),
            "learning-rate-too-high",
        ),
        "Ioffe and Szegedy 2015 (batch), Ba et al. 2016 (layer)",
        "no nonlinearity reads the output of one layer, or a sum with it, without a normalisation",
        "flatline.treatments.norms",
    ),
    Method(
        "unfreeze",
        "all",
        ("all",),
        _one_of("all"),
        ("frozen-parameters",),
        "Yosinski et al. 2014: what fine-tuning all layers gains over frozen ones",
        "every parameter of the model is trained already",
        "flatline.treatments.thaw",
    ),
    Method(
        "detach",
        "off",
        ("off",),
        _one_of("off"),
        ("frozen-parameters",),
        "Rumelhart et al. 1986: the gradient goes back through every layer",
        "it changes nothing where the model's forward pass calls no detach()",
        "flatline.treatments.thaw",
    ),
    Method(
        "weight_decay",
        "VALUE",
        ("0.0001", "0"),
        _decay,
        ("weight-decay-collapse",),
        "Krogh and Hertz 1991; Loshchilov and Hutter 2019",
        "the optimizer has no weight decay",
        "flatline.treatments.steps",
    ),
    Method(
        "schedule",
        "constant",
        ("constant",),
        _one_of("constant"),
        ("learning-rate-too-high", "learning-rate-too-low"),
        "Robbins and Monro 1951: rates that fall too fast stop short",
        "the optimizer has no learning rate",
        "flatline.treatments.steps",
    ),
    Method(
        "lr",
        "xFACTOR",
        ("x0.1", "x10"),
        _factor,
        (
            *("learning-rate-too-high", "learning-rate-too-low", "dying-relu", "saturation"),
            *("exploding-gradient", "no-learning", "non-finite", "unscaled-input"),
            "upstream-death",
        ),
        "Bengio 2012, Practical recommendations for gradient-based training",
        "the optimizer has no learning rate",
        "flatline.treatments.steps",
    ),
    Method(
        "warmup",
        "STEPS",
        ("100",),
        _count,
        ("learning-rate-too-high", "dying-relu"),
        "Goyal et al. 2017",
        "the optimizer has no learning rate",
        "flatline.treatments.steps",
    ),
    Method(
        "clip",
        "norm:MAX|value:MAX|agc:RATIO|auto:PERCENTILE",
        ("norm:1.0", "value:0.5", "agc:0.01", "auto:10"),
        _clip,
        (
            *("exploding-gradient", "learning-rate-too-high", "dying-relu", "non-finite"),
            "upstream-death",
        ),
        "Pascanu et al. 2013 (norm), Brock et al. 2021 (agc), Seetharaman et al. 2020 (auto)",
        "the gradients are sparse",
        "flatline.treatments.clipping",
    ),
    Method(
        "zero_grad",
        "each",
        ("each",),
        _one_of("each"),
        ("stale-gradients",),
        "torch.optim.Optimizer.zero_grad: gradients add up until they are reset",
        "several steps are meant to use one gradient",
        "flatline.treatments.loop",
    ),
)

_BY_NAME = {method.name: method for method in METHODS}
#: Stands between treatments that are carried out together.
_AND = re.compile(r"\+(?=[a-z_]+=)")


def split(text: str) -> list[str]:
    """The treatments of a text that joins them.

    Example:
        >>> split("init=he+lr=x0.1")
        ['init=he', 'lr=x0.1']
    """
    return _AND.split(text)


def parse(text: str) -> Treatment:
    """The treatment written ``name=value``.

    Args:
        text: For example ``"clip=norm:1.0"``.

    Raises:
        UsageError: There is no such treatment, or it takes no such value.

    Example:
        >>> parse("clip=norm:1.0").value
        ('norm', 1.0)
        >>> str(parse("lr=x0.1"))
        'lr=x0.1'
    """
    name, equals, value = text.partition("=")
    method = _BY_NAME.get(name)
    if method is None or not equals:
        allowed = ", ".join(f"{one.name}={one.values}" for one in METHODS)
        raise UsageError(f"expected a treatment among {allowed}; found {text!r}{_nearest(text)}")
    try:
        return Treatment(method, value, method.read(value))
    except ValueError:
        raise UsageError(
            f"expected {name}={method.values}, found {text!r}{_nearest(text, [method])}"
        ) from None


def parse_all(texts: Iterable[str]) -> tuple[Treatment, ...]:
    """Several treatments, in the order in which they are carried out.

    Args:
        texts: Treatments, or several joined by ``+``.

    Raises:
        UsageError: One is unknown, or there are two of a kind.

    Example:
        >>> [str(one) for one in parse_all(["clip=agc:0.01+lr=x0.1", "init=he"])]
        ['init=he', 'lr=x0.1', 'clip=agc:0.01']
    """
    found: dict[str, Treatment] = {}
    for one in [parse(part) for text in texts for part in split(text)]:
        if one.name in found:
            raise UsageError(
                f"expected one treatment of a kind, found {found[one.name]} and {one}; keep one"
            )
        found[one.name] = one
    return tuple(found[method.name] for method in METHODS if method.name in found)


def _nearest(text: str, methods: Iterable[Method] = METHODS) -> str:
    """A suggestion, where something that exists is spelled much like ``text``."""
    spelled = [f"{one.name}={value}" for one in methods for value in one.examples]
    near = difflib.get_close_matches(text, spelled, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
