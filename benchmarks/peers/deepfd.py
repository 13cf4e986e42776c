"""DeepFD: classifiers over the time series of what AUTOTRAINER reads."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import stats
from torch import Tensor

from .autotrainer import Reading, largest_gain, oscillates, read_gradients, read_metrics
from .peer import NOTHING, Codes, Peer, Words
from .recording import Epoch, finite

Features = npt.NDArray[np.float32]
SEED = 0


class DeepFD(Peer):
    """Collects DeepFD's features of a training: 22 series, each summed up in 8 figures.

    At each reading: loss and accuracy in training and validation; flags, and counters that grow
    with each reading that shows the sign: accuracy never 0.7, none rising by 0.01, oscillating,
    worse in validation, validation loss rising while training loss falls, loss or accuracy not
    finite, loss up, accuracy down, zero gradients, vanishing and exploding gradient as in
    AUTOTRAINER, gradients or weights not finite, a weight above 5, mean or deviation of a weight
    tensor as before. Of each series mean, deviation, skewness, median, variance, standard error,
    largest and smallest value.

    The source reads every 256 batches; trainings this short are read after each epoch. It
    is fitted by :func:`fit_and_diagnose`, since the published classifiers know Keras 2.2 only.
    """

    name = "DeepFD"
    source = (
        "ArabelaTso/DeepFD CodeBook/Callbacks/Monitor.py, Utils/analysis_utils.py,"
        " MultiLabelClassification/MultiLabelClassifier.py 9fe0895"
    )
    blind = "units and layers; what it was not fitted on; says what, never where or when"
    codes: ClassVar[Words] = {"faulty": NOTHING}

    def __init__(self) -> None:
        super().__init__()
        self.readings: list[Reading] = []
        self.large: list[bool] = []
        self.moments: list[list[tuple[float, float]]] = []

    def epoch(self, epoch: Epoch) -> None:
        self.readings.append(read_gradients(epoch.last, read_metrics(epoch)))
        weights = list(epoch.last.updated.values())
        self.large.append(any(float(weight.abs().max()) > 5 for weight in weights))
        self.moments.append([moments(weight) for weight in weights])

    def features(self) -> Features:
        """176 figures; what cannot be computed is 0."""
        series = np.array([self.row(i) for i in range(len(self.readings))], dtype=np.float64)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # short or constant series: their figures are 0
            spread = series.std(0, ddof=1)
            figures = [
                series.mean(0), spread, stats.skew(series, axis=0, bias=False),
                np.median(series, axis=0), spread**2, spread / math.sqrt(len(series)),
                series.max(0), series.min(0),
            ]  # fmt: skip
            found = np.concatenate(figures).astype(np.float32)
        return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)

    def accuracy_signs(self, index: int) -> tuple[bool, bool, bool]:
        """Never accurate, oscillating, not rising: as accuracies up to an epoch show it."""
        past = self.readings[: index + 1]
        train, test = [r.accuracy for r in past], [r.val_accuracy for r in past]
        if len(past) < 0.3 * len(self.readings) or np.isnan(train).any():
            return False, False, False
        return (
            max(train) < 0.7 or max(test) < 0.7,
            oscillates(train),
            largest_gain(train) < 0.01 and largest_gain(test) < 0.01,
        )

    def row(self, index: int) -> list[float]:
        """The features as they stand after an epoch; a sign that was there once stays."""
        now, past = self.readings[index], self.readings[: index + 1]
        late = [r for i, r in enumerate(past) if i + 1 >= 0.3 * len(self.readings)]
        signs = [self.accuracy_signs(i) for i in range(index + 1)]
        bad, uneven, flat = (any(sign) for sign in zip(*signs, strict=True))
        same = [self.unmoved(i) for i in range(1, index + 1)]
        return [
            now.loss, now.accuracy, now.val_loss, now.val_accuracy,
            bad, uneven,
            sum(not math.isfinite(r.loss + r.val_loss) or r.val_loss >= 1e5 for r in past),
            sum(gap(r) for r in late),
            turned_bad(past),
            flat,
            sum(r.finite_grads and r.zeros >= 0.7 for r in past),
            sum(r.finite_grads and r.ratio < 1e-3 and r.first < 1e-4 for r in past),
            sum(r.finite_grads and r.ratio > 70 for r in past),
            any(not r.finite_grads for r in past),
            sum(self.large[: index + 1]),
            any(not r.finite_weights for r in past),
            0.0,  # the source never sets its "weight changes little"
            sum(b.accuracy < a.accuracy for a, b in pairs(past)),
            sum(b.loss > a.loss for a, b in pairs(past)),
            sum(means for means, _ in same), sum(deviations for _, deviations in same),
            sum(math.isinf(r.accuracy) for r in past),
        ]  # fmt: skip

    def unmoved(self, index: int) -> tuple[int, int]:
        """Weight tensors whose mean, and whose deviation, is what it was an epoch before."""
        both = list(zip(self.moments[index - 1], self.moments[index], strict=True))
        return sum(a[0] == b[0] for a, b in both), sum(a[1] == b[1] for a, b in both)


def moments(weight: Tensor) -> tuple[float, float]:
    if not finite(weight):
        return math.nan, math.nan
    return float(weight.mean()), float(weight.std(correction=0))


def pairs(past: list[Reading]) -> list[tuple[Reading, Reading]]:
    return list(itertools.pairwise(past))


def gap(reading: Reading) -> bool:
    """Whether validation is well below training."""
    return reading.accuracy - reading.val_accuracy >= (0.1 if reading.accuracy <= 0.9 else 0.07)


def turned_bad(past: list[Reading]) -> int:
    """Epochs on end, up to now, in which training loss fell and validation loss rose."""
    count = 0
    for before, after in reversed(pairs(past)):
        if not (after.loss - before.loss < -0.01 and after.val_loss - before.val_loss > 0.01):
            break
        count += 1
    return count


def fit_and_diagnose(
    known: Sequence[Features], labels: Sequence[Codes], asked: Sequence[Features]
) -> list[Codes]:
    """Fit DeepFD's three classifiers to labelled trainings and ask them about others.

    A training's diagnosis is the union of the three; none of them saying anything is healthy. The
    labels of the source are five kinds of fault; here they are flatline's codes, so that nothing is
    lost in translation.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    names = sorted(NOTHING.union(*labels))
    if not names or not asked:
        return [NOTHING] * len(asked)
    x, queries = scaled(np.stack(known), np.stack(asked))
    y = np.array([[name in codes for name in names] for codes in labels], dtype=np.int64)
    votes = np.zeros((len(asked), len(names)), dtype=np.int64)
    for classifier in (
        KNeighborsClassifier(n_neighbors=min(5, len(known))),
        DecisionTreeClassifier(max_depth=5, random_state=SEED),
        RandomForestClassifier(n_estimators=32, max_depth=10, max_features=60, random_state=SEED),
    ):
        classifier.fit(x, y if len(names) > 1 else y[:, 0])
        votes += classifier.predict(queries).reshape(votes.shape)
    return [frozenset(np.array(names)[row > 0].tolist()) for row in votes]


def scaled(known: Features, asked: Features) -> tuple[Features, Features]:
    """Both scaled to the range of the known ones; what does not vary there is 0."""
    low, span = known.min(0), np.ptp(known, axis=0)
    wide = np.where(span > 0, span, 1)
    return tuple(np.where(span > 0, (part - low) / wide, 0) for part in (known, asked))  # type: ignore[return-value]
