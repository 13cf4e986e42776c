"""Recurrent modules, whose inside is out of sight: the units are what they give out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from flatline import activations
from flatline.anatomy.atlas import Feed, Place
from flatline.anatomy.labels import OUTPUT, Label, Origin, Shown, Weights
from flatline.anatomy.operators import Args, tensors_of
from flatline.anatomy.spread import of_axis

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer


def place(tracer: Tracer, module: nn.Module, args: Args, out: Any) -> None:
    """Place the output of a recurrent module, whose inside was not traced.

    Args:
        tracer: The tracer.
        module: An ``nn.RNNBase`` or ``nn.RNNCellBase``.
        args: What it was called with: the input, then the states it starts from.
        out: What it gave.
    """
    name = tracer.names.module(module)
    if name is None:
        return
    _read_by(tracer, module, name, args)
    outputs, states = out if isinstance(out, tuple) else (out, None)
    h = outputs.data if isinstance(outputs, nn.utils.rnn.PackedSequence) else outputs
    if isinstance(module, nn.LSTMCell):
        h, states = outputs, None
    found = _site(tracer, module, name, h.shape[-1])
    spread = of_axis(h.shape, -1)
    token = tracer.observer.before(found, h, spread, None)
    tracer.observer.after(token, h)
    label = Label(OUTPUT, Origin(found.name, found.feeds, found.units), spread, tokens=(token,))
    tracer.labels.put(h, label)
    last = states[0] if isinstance(states, tuple) else states
    if isinstance(last, Tensor) and last.is_floating_point():
        # The last step's outputs again, beside those of the layers below.
        alone = last.shape[0] == 1 or last.ndim == 1
        tracer.labels.put(last, label.at(of_axis(last.shape, -1)) if alone else label.at(None))


def _site(tracer: Tracer, module: nn.Module, name: str, units: int) -> Place:
    """The site of the topmost layer; those below show no output of their own."""
    kind = getattr(module, "mode", type(module).__name__.removesuffix("Cell")).lower()
    if kind == "rnn":
        kind = f"rnn_{module.nonlinearity}"
    layers = getattr(module, "num_layers", 1)
    for layer in range(layers - 1):
        because = f"a layer inside {type(module).__name__} shows no output of its own"
        tracer.atlas.miss(_join(name, f"l{layer}"), because)
    cell = isinstance(module, nn.RNNCellBase)
    last = "" if cell else f"_l{layers - 1}"
    feeds = tuple(
        Feed(_join(name, key), parameter, None, key.startswith("bias"))
        for key, parameter in module.named_parameters(recurse=False)
        if cell or key.removesuffix("_reverse").endswith(last)
    )
    return tracer.atlas.place(name or kind, activations.get(kind), feeds, "", units)


def _read_by(tracer: Tracer, module: nn.Module, name: str, args: Args) -> None:
    """The input is read by the first layer's input weights, a state by its recurrent ones."""
    cell = isinstance(module, nn.RNNCellBase)
    directions = ("", "_reverse") if getattr(module, "bidirectional", False) else ("",)
    for kind, values in (("weight_ih", args[:1]), ("weight_hh", _flat(args[1:]))):
        keys = (kind,) if cell else tuple(f"{kind}_l0{direction}" for direction in directions)
        shown = tuple(Shown(_join(name, key), getattr(module, key), (0, 1)) for key in keys)
        for tensor in tensors_of(values, {}):
            label = tracer.label(tensor)
            if isinstance(label, Label):
                tracer.read(label, Weights(shown), _columns(shown, tensor))


def _columns(shown: tuple[Shown, ...], x: Tensor) -> Tensor | None:
    """The largest absolute weight that reads each feature of ``x``."""
    columns = [one.parameter.detach().abs().amax(dim=0) for one in shown]
    reach = columns[0] if len(columns) == 1 else columns[0].maximum(columns[1])
    return reach if len(reach) == x.shape[-1] else None


def _flat(values: Args) -> list[Any]:
    """States, taken out of the pairs of an LSTM."""
    return [one for value in values for one in (value if isinstance(value, tuple) else (value,))]


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
