"""Linear maps one behind the other with nothing between: together they are one linear map."""

from __future__ import annotations

from collections.abc import Iterable

from flatline.anatomy import operators
from flatline.anatomy.course import Layer, Node

#: May lie between: views, dropout, the first map's own bias.
_BETWEEN = frozenset([*operators.RESHAPING, "t", "transpose", "permute", "dropout", "bias"])


def stacked(layers: Iterable[Node]) -> list[tuple[Layer, Layer]]:
    """Pairs of linear maps of which the second alone reads the first, unbent.

    Where something else takes the first map's output as well (a loss, a second head), it is there
    to be read, and no nonlinearity is missing. So is a layer that is applied to its own output.

    Args:
        layers: The nodes of the layers of one step.
    """
    found: dict[tuple[str, str], tuple[Layer, Layer]] = {}
    for node in layers:
        if node.layer is None or not node.layer.linear or len(node.parents) != 1:
            continue
        before = node.parents[0]
        while before.op in _BETWEEN and before.uses == 1 and len(before.parents) == 1:
            before = before.parents[0]
        first = before.layer
        if first is None or not first.linear or before.uses != 1 or first.name == node.layer.name:
            continue
        found.setdefault((first.name, node.layer.name), (first, node.layer))
    return list(found.values())
