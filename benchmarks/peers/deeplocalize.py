"""DeepLocalize: means of outputs, weights and gradients after each batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from .deepdiagnosis import unchanged
from .peer import DEAD, FROZEN, NON_FINITE, NOTHING, STUCK, VANISHING, Peer, Words
from .recording import PASSIVE, Step

#: What may be wrong where a tensor is not finite, where it is 0, and where it does not change.
WRONG = {"not finite": NON_FINITE, "zero": DEAD | {"zero-init"}, "unchanged": STUCK | FROZEN | DEAD}


class DeepLocalize(Peer):
    """DeepLocalize's callback, in the copy that comes with DeepDiagnosis.

    After each batch, of every layer's output and its gradient, and of the weights of dense layers
    and their gradients: a mean that is not finite; that was exactly 0 in at least half of the
    batches so far; that was the same in five batches on end, asked every fifth. Also a loss or
    accuracy that is not finite, or the same in five batches ("model does not learn"). The first
    ends the training. It says where, and leaves why to the reader; here the word taken for a
    diagnosis is what it saw there.
    """

    name = "DeepLocalize"
    source = "DeepDiagnosis/ICSE2022 callback/callbacks.py (DeepLocalize) 500b017"
    blind = "units, causes, scale: anything but NaN, exact zeros and standstill"
    codes: ClassVar[Words] = {
        **{
            f"{place} {how}": codes
            for place in ("forward", "weight")
            for how, codes in WRONG.items()
        },
        **{
            f"{place} {how}": codes | (NOTHING if how == "not finite" else VANISHING)
            for place in ("delta weight", "output gradient")
            for how, codes in WRONG.items()
        },
        "invalid loss": NON_FINITE,
        "model does not learn": STUCK,
    }

    window = 5

    def __init__(self) -> None:
        super().__init__()
        self.means: dict[tuple[str, str], list[float]] = {}
        self.zeros: Counter[tuple[str, str]] = Counter()
        self.count = 0

    def step(self, step: Step) -> None:
        self.count += 1
        if not self.said:
            found = next(self.symptoms(step), None)
            if found is not None:
                self.say(found, step.index)

    def symptoms(self, step: Step) -> Iterator[str]:
        found = [call for call in step.layers() if call.kind not in PASSIVE]
        for call in found:
            assert call.output is not None
            yield from self.look("forward", call.name, float(call.output.float().mean()))
        dense = [call.name for call in found if call.weighted and call.kind == "Linear"]
        for name in reversed(dense):
            weight = step.updated.get(f"{name}.weight")
            if weight is not None:
                yield from self.look("weight", name, float(weight.mean()))
        yield from self.metrics(step)
        for name in reversed(dense):
            grad = step.grads.get(f"{name}.weight")
            if grad is not None:
                yield from self.look("delta weight", name, float(grad.mean()))
        # Softmax belongs to the last layer in Keras; before it, gradients sum to 0 by themselves.
        inner = found[:-1] if step.criterion == "cross_entropy" else found
        for call in reversed(inner):
            if call.grad is not None:
                yield from self.look("output gradient", call.name, float(call.grad.mean()))

    def look(self, place: str, name: str, mean: float) -> Iterator[str]:
        key = (place, name)
        self.means.setdefault(key, []).append(mean)
        if not math.isfinite(mean):
            yield f"{place} not finite"
        if mean == 0:
            self.zeros[key] += 1
            if self.zeros[key] >= self.count / 2:
                yield f"{place} zero"
        if self.stands_still(key):
            yield f"{place} unchanged"

    def metrics(self, step: Step) -> Iterator[str]:
        for what, value in (("loss", step.loss), ("accuracy", step.accuracy)):
            if value is None:
                continue
            self.means.setdefault((what, ""), []).append(value)
            if not math.isfinite(value):
                yield "invalid loss"
            if self.stands_still((what, "")):
                yield "model does not learn"

    def stands_still(self, key: tuple[str, str]) -> bool:
        values = self.means[key][-self.window :]
        return self.count % self.window == 0 and len(values) == self.window and unchanged(values)
