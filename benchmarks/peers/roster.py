"""Who takes part, and who does not and why."""

from __future__ import annotations

from .autotrainer import AutoTrainer
from .cockpit import Cockpit
from .deepdiagnosis import DeepDiagnosis
from .deepfd import DeepFD
from .deeplocalize import DeepLocalize
from .dlcheck import DLCheck
from .neuraldbg import NeuralDBG
from .peer import Peer
from .sagemaker import SageMaker, SageMakerEveryStep
from .silent import SNR, DeadNeurons, DeadReluDetector, LossOfPlasticity, ReDo, ReDoZero, UvA
from .thedeepchecker import TrainingChecks
from .thedeepchecker_start import TheDeepChecker
from .torchmortem import Torchmortem, TorchmortemCritical
from .umlaut import Umlaut

PEERS: tuple[type[Peer], ...] = (
    AutoTrainer,
    DeepFD,
    DeepDiagnosis,
    DeepLocalize,
    Umlaut,
    SageMaker,
    SageMakerEveryStep,
    TheDeepChecker,
    TrainingChecks,
    Torchmortem,
    TorchmortemCritical,
    NeuralDBG,
    DLCheck,
    Cockpit,
    DeadReluDetector,
    DeadNeurons,
    UvA,
    LossOfPlasticity,
    ReDo,
    ReDoZero,
    SNR,
)

#: Peers whose rules cannot be run on a training.
ABSENT = {
    "TrainCheck": "invariants are inferred from traces of healthy runs of the same program",
    "delve": "draws the saturation of layers; no rule says what is too low",
    "wandb.watch": "histograms of parameters and gradients; no rule",
    "continual backprop": "replaces the least useful units at a rate; judges none (its measure of"
    " dormant units takes part)",
    "SAE training (openai, SAELens)": "latents of a sparse autoencoder, silent for 1000 steps"
    " or 10 million tokens: the zoo has neither",
    "dnikit IUA": "counts inactive units; no rule says how many are too many",
    "Torch-Pruning": "ranks units for removal",
    "ExactCompression": "proves units removable after the training, by an integer program",
    "auto_LiRPA": "bounds a trained network's outputs",
}
