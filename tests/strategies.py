"""Hypothesis strategies for vitals and ledgers, ordinary and adversarial, and their raw data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flatline.sense.vitals import Ledger, Vitals

NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 1e-30, -1e30, 1e30]),
    st.floats(-8, 8, width=32),
)
WILD = st.one_of(NUMBERS, st.sampled_from([float("nan"), float("inf"), float("-inf")]))


@dataclass(frozen=True)
class Raw:
    """Pre-activations of a few examples, one row each, with what vitals cannot be derived from."""

    z: np.ndarray
    nonfinite: np.ndarray
    ignored: np.ndarray
    gradient: np.ndarray
    update: np.ndarray

    def vitals(self) -> Vitals:
        """The vitals of all rows in one pass, for a ReLU."""
        z = self.z.astype(np.float32)
        n, units = z.shape
        if n == 0:
            return Vitals.empty(units)
        h = np.maximum(z, 0)
        same = (z[:, :, None] == z[:, None, :]).all(axis=0)
        return Vitals(
            examples=n,
            fired=(z > 0).sum(axis=0).astype(np.int32),
            railed=(z > 6).sum(axis=0).astype(np.int32),
            z_min=z.min(axis=0),
            z_max=z.max(axis=0),
            h_min=h.min(axis=0),
            h_max=h.max(axis=0),
            h_abs=h.astype(np.float64).sum(axis=0),
            z_sum=z.astype(np.float64).sum(axis=0),
            z_sq=(z.astype(np.float64) ** 2).sum(axis=0),
            twin=same.argmax(axis=1).astype(np.int32),
            nonfinite=self.nonfinite,
            ignored=self.ignored,
            gradient=self.gradient,
            update=self.update,
        )


@st.composite
def raws(draw: st.DrawFn, units: int, most: int = 5) -> Raw:
    """Raw data of one window."""
    n = draw(st.integers(1, most))
    small = st.sampled_from([0.0, 1e-12, 1e-9, 1e-3, 1.0, float("nan")])
    return Raw(
        draw(hnp.arrays(np.float64, (n, units), elements=NUMBERS)),
        draw(hnp.arrays(bool, units, elements=st.just(False) | st.booleans())),
        draw(hnp.arrays(bool, units)),
        draw(hnp.arrays(np.float32, units, elements=small.map(np.float32))),
        draw(hnp.arrays(np.float32, units, elements=small.map(np.float32))),
    )


@st.composite
def wild_vitals(draw: st.DrawFn, units: int) -> Vitals:
    """Any vitals that type-check, consistent or not."""
    n = draw(st.sampled_from([0, 1, 2, 458, 459, 1000]))
    count = hnp.arrays(
        np.int32, units, elements=st.sampled_from([0, n // 2, (n * 19 + 19) // 20, n])
    )
    real = hnp.arrays(np.float64, units, elements=WILD)
    low, high = draw(real), draw(real)
    z_low, z_high = draw(real), draw(real)
    if draw(st.booleans()):
        high = low.copy()
    return Vitals(
        examples=n,
        fired=draw(count),
        railed=draw(count),
        z_min=np.minimum(z_low, z_high).astype(np.float32),
        z_max=np.maximum(z_low, z_high).astype(np.float32),
        h_min=np.minimum(low, high).astype(np.float32),
        h_max=np.maximum(low, high).astype(np.float32),
        h_abs=np.abs(draw(real)),
        z_sum=draw(real),
        z_sq=np.abs(draw(real)),
        twin=np.minimum(
            draw(hnp.arrays(np.int32, units, elements=st.integers(0, 3))), np.arange(units)
        ).astype(np.int32),
        nonfinite=draw(hnp.arrays(bool, units)),
        ignored=draw(hnp.arrays(bool, units)),
        gradient=np.abs(draw(real)).astype(np.float32),
        update=draw(
            hnp.arrays(
                np.float32,
                units,
                elements=st.sampled_from([np.float32(v) for v in (0, 1e-8, 1e-7, 1e-3)]),
            )
        ),
    )


@st.composite
def ledgers(draw: st.DrawFn, units: int) -> Ledger:
    """Any ledger."""
    step = st.integers(-1, 6)
    return Ledger(
        draw(hnp.arrays(np.int32, units, elements=step)),
        draw(hnp.arrays(np.int32, units, elements=step)),
        draw(hnp.arrays(np.int64, units, elements=st.sampled_from([0, 1, 458, 459, 10**6]))),
        draw(hnp.arrays(bool, units)),
    )
