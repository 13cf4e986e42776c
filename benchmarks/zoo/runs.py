"""The zoo: every run, composed of a recipe and of what was done to it."""

from __future__ import annotations

from dataclasses import replace

from torch import nn, optim

from . import twists
from .fault import Fault
from .faults.drifts import (
    balanced_to_one,
    balanced_to_zero,
    drained,
    faint_sparsity,
    hashed,
    sparsity,
    strangled,
)
from .faults.flows import bright, idle_sensors, offset, raw, scaled_later, shifted_later
from .faults.loops import (
    broadcast,
    log_of_zero,
    missing_value,
    outliers,
    root_of_zero,
    shuffled_targets,
    smoothed,
    spiked_batch,
    summed_once,
    zero_deviation,
)
from .faults.rates import (
    creeping,
    decayed,
    detached,
    fading,
    forgotten,
    raised,
    rate,
    rebuilt,
    shrunk,
    unreset,
)
from .faults.shapes import (
    ended,
    exponentials,
    forgot_one,
    pinched,
    sigmoids,
    softmax_of_one,
    straight,
    unskipped,
)
from .faults.starts import (
    closed,
    default_depth,
    drawn_large,
    drawn_small,
    equal_rows,
    equal_weights,
    half_born_dead,
    narrow,
    negative_bias,
    negative_weights,
    positive_bias,
    pruned_readers,
    railed_bias,
    whispering,
    widened,
)
from .labels import Run
from .recipes import RECIPES

Table = list[tuple[str, Fault]]

#: One fault at a time.
SINGLE: Table = [
    # Initialisation
    ("mlp mlp-tanh autoencoder", equal_weights.set(value=0.0)),
    ("mlp-sigmoid mlp-wine regression", equal_weights.set(value=0.1)),
    ("cnn", equal_weights.set(value=0.01)),
    ("mlp-tanh", equal_rows),
    ("mlp mlp-mnist", default_depth.set(depth=10)),
    ("mlp-deep mlp-wine cnn mlp-tanh-deep", drawn_small),
    ("mlp-adam cnn-mnist autoencoder bottleneck regression-rare finetune", drawn_large),
    ("rnn", drawn_large.set(std=3.0)),
    ("mlp cnn mlp-wine bag transformer-relu", negative_bias),
    ("mlp-batchnorm resnet", negative_bias.set(value=-9.0)),
    ("mlp-mnist", negative_weights),
    ("mlp", narrow),
    ("mlp cnn regression mlp-mnist mlp-tanh", widened),
    ("mlp-elu", widened.set(parts=4)),
    ("mlp-tanh cnn-tanh regression-tanh", railed_bias),
    # Slow deaths
    ("mlp mlp-wine residual-relu", balanced_to_zero),
    ("finetune transformer-relu", balanced_to_zero.set(rate=0.1)),
    ("mlp-adam finetune mlp-dropout towers", sparsity),
    ("mlp-wine mlp-mnist", sparsity.set(strength=0.3)),
    ("cnn", faint_sparsity),
    ("mlp mlp-mnist", faint_sparsity.set(strength=0.1)),
    ("cnn-relu6", balanced_to_one),
    ("mlp-tanh", hashed),
    ("regression mlp-mnist", strangled),
    ("regression mlp-wine autoencoder mlp-adam", drained),
    # Data
    ("regression-adam mlp-wine mlp-cancer", raw),
    ("mlp finetune", offset),
    ("mlp cnn", bright),
    ("mlp cnn mlp-mnist regression mlp-wine", shifted_later),
    ("finetune", shifted_later.set(by=-8.0)),
    ("mlp-tanh mlp-sigmoid regression-tanh", scaled_later),
    # Rates
    ("mlp", rate.set(lr=2.0)),
    ("mlp-adam finetune autoencoder cnn-mnist", rate.set(lr=0.1)),
    ("regression experts", rate.set(lr=0.3)),
    ("cnn gru", rate.set(lr=1.0)),
    ("mlp cnn", raised),
    ("mlp-mnist mlp-adam", raised.set(factor=50.0)),
    ("residual-relu", raised.set(factor=100.0)),
    ("mlp regression cnn", creeping),
    ("transformer", creeping.set(lr=1e-7)),
    ("mlp-adam regression", fading),
    ("mlp cnn regression", shrunk),
    ("mlp-adam transformer-relu cnn-mnist", decayed),
    ("mlp mlp-adam cnn regression gru mlp-batchnorm", unreset),
    ("finetune", forgotten.set(part="backbone")),
    ("autoencoder", forgotten.set(part="encode")),
    ("towers", forgotten.set(part="left")),
    ("finetune", detached.set(part="backbone")),
    ("cnn", detached.set(part="2")),
    ("rnn-scan", rebuilt.set(part="cell")),
    # The loop
    ("mlp cnn mlp-mnist", spiked_batch),
    ("mlp cnn", summed_once),
    ("regression regression-tanh", outliers),
    ("mlp mlp-batchnorm autoencoder", missing_value),
    ("mlp-mnist", zero_deviation),
    ("mlp cnn", log_of_zero),
    ("mlp-cancer", exponentials),
    ("regression", root_of_zero),
    ("mlp cnn mlp-wine rnn-scan", shuffled_targets),
    ("regression regression-tanh", broadcast),
    # Architecture
    ("mlp-rings mlp-rings-deep mlp-mnist experts-rings", straight),
    ("mlp mlp-wine regression mlp-mnist", sigmoids),
    ("mlp mlp-cancer", sigmoids.set(depth=9)),
    ("mlp-tanh mlp-leaky mlp-wine", smoothed),
    ("mlp-adam mlp-mnist", pinched),
    ("transformer", unskipped),
    ("mlp-wine regression cnn", ended),
    ("regression-rare autoencoder", ended.set(act=nn.Sigmoid)),
    ("mlp-cancer", softmax_of_one),
]  # fmt: skip

#: Two faults in one run that do not hide each other.
PAIRS: list[tuple[str, Fault, Fault]] = [
    ("mlp-adam", half_born_dead, unreset),
    ("mlp", half_born_dead.set(site=1), spiked_batch),
    ("cnn", half_born_dead, raised),
    ("residual-relu", half_born_dead.set(site=3), balanced_to_zero),
    ("mlp-mnist", half_born_dead.set(site=1), sparsity.set(strength=0.3)),
    ("finetune", half_born_dead.set(site=2), forgotten.set(part="backbone")),
    ("finetune", half_born_dead.set(site=2), balanced_to_zero.set(rate=0.1)),
    ("mlp-adam", half_born_dead.set(site=2), sparsity),
    ("mlp", half_born_dead.set(site=1), faint_sparsity.set(strength=0.1)),
    ("transformer-relu", half_born_dead.set(site=1), creeping.set(lr=1e-7)),
    ("mlp", half_born_dead, creeping),
    ("mlp", half_born_dead.set(site=1), shifted_later),
    ("autoencoder", half_born_dead, ended.set(act=nn.Sigmoid)),
    ("mlp", widened, raised),
    ("regression", widened, ended),
    ("mlp-tanh", widened, scaled_later),
    ("mlp-mnist", widened, creeping),
    ("mlp-deep", forgotten.set(part="4"), balanced_to_zero.set(rate=0.1)),
    ("finetune", detached.set(part="backbone"), raised.set(factor=50.0)),
    ("regression", ended, creeping),
    ("finetune", offset, forgotten.set(part="backbone")),
    ("mlp-rings", straight, creeping),
]  # fmt: skip

#: What costs capacity at most.
BENIGN: Table = [
    ("mlp-wine mlp-cancer regression regression-tanh", idle_sensors),
    ("mlp-wide regression mlp-wine mlp-cancer", positive_bias),
    ("regression-rare regression cnn mlp-wine", whispering),
    ("experts experts-cancer", closed),
    ("experts experts-cancer", closed.set(number=2)),
    ("mlp-adam regression mlp-tanh cnn", pruned_readers),
    ("mlp-mnist mlp-wine", forgot_one),
]

#: What looks like a fault and is none.
TWISTS: Table = [
    ("mlp transformer cnn-batchnorm separable", twists.to_zero),
    ("mlp-adam cnn regression", twists.one_cycle),
    ("mlp", twists.restarts),
    ("mlp cnn regression", twists.accumulated),
    ("mlp cnn mlp-wine", twists.batch_of),
    ("mlp gru", twists.clipped),
    ("mlp", twists.updated_by.set(kind=optim.RMSprop, lr=1e-3)),
    ("mlp-tanh", twists.updated_by.set(kind=optim.Adagrad, lr=2e-2)),
    ("mlp-deep", twists.updated_by.set(kind=optim.SGD, lr=0.01, momentum=0.9, nesterov=True)),
    ("cnn", twists.updated_by.set(kind=optim.NAdam, lr=2e-3)),
    ("bag bag-sparse", twists.updated_by.set(kind=optim.SGD, lr=2.0)),
    ("mlp residual-mlp", twists.modest_decay),
    ("mlp", twists.smoothed_labels),
    ("mlp-batchnorm mlp-dropout", twists.validated),
    ("mlp", twists.averaged),
    ("mlp-adam", twists.light_sparsity),
    ("mlp cnn", twists.noisy_labels),
    ("mlp", twists.augmented),
    ("mlp", twists.imbalanced),
    ("mlp-wide mlp-mnist", twists.spare_dead),
    ("mlp-wide mlp-adam", twists.pruned_weights),
    ("mlp cnn", twists.zero_head),
    ("transformer residual-mlp resnet", twists.zero_branches),
    ("finetune", twists.frozen_backbone),
    ("finetune", twists.frozen_backbone.set(listed=False)),
    ("finetune", twists.features_only),
    ("finetune", twists.adapted),
    ("cnn-batchnorm", twists.frozen_norms),
]

#: Recipes that are cheap enough to be run with a second and a third seed.
AGAIN = (
    "mlp",
    "mlp-deep",
    "mlp-adam",
    "mlp-tanh",
    "mlp-sigmoid",
    "mlp-gelu",
    "mlp-wine",
    "mlp-cancer",
    "mlp-rings",
    "regression",
    "regression-rare",
    "regression-tanh",
    "cnn",
    "cnn-batchnorm",
    "rnn-scan",
    "bag",
    "autoencoder",
    "towers",
    "finetune",
    "experts",
    "glu",
    "mlp-batchnorm",
    "mlp-layernorm",
    "mlp-silu",
    "mlp-selu",
    "residual-relu",
    "bottleneck",
)


def _all() -> dict[str, Run]:
    made = [Run(name) for name in RECIPES]
    made += [Run(name, seed=seed) for seed in (1, 2) for name in AGAIN]
    for table in (SINGLE, BENIGN, TWISTS):
        made += [Run(name, (fault,)) for names, fault in table for name in names.split()]
    made += [Run(name, (first, second)) for name, first, second in PAIRS]
    return {run.id: run for run in made}


RUNS = _all()


def drawn(draw: int) -> dict[str, Run]:
    """All runs of another draw."""
    runs = (replace(run, draw=draw) for run in RUNS.values())
    return {run.id: run for run in runs}


def named(name: str) -> Run:
    """The run of that id, whichever draw it belongs to; KeyError for none."""
    plain, _, draw = name.partition("~")
    return replace(RUNS[plain], draw=int(draw or 0))
