"""Fifty real bugs, re-expressed in PyTorch, on which four tools were compared before.

``python -m benchmarks.real_bugs`` trains each, buggy and repaired, under ``flatline.Monitor``.
``table`` says what was wrong; ``outputs``, ``rates``, ``scales`` and ``units`` hold the programs.

Each program keeps what its fault needs: layers, activations, initialisation, loss, optimizer and
rate, and the scale of the data. It is given fewer or narrower layers, examples and epochs than the
original, so that it takes seconds. Where a fault depends on the draw of the weights, the seed is
one that shows it.
"""

from . import outputs, rates, scales, units
from .program import PROGRAMS
from .table import BUGS

__all__ = ["BUGS", "PROGRAMS", "outputs", "rates", "scales", "units"]
