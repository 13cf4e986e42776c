"""How sure one may be that a unit is silent, from the number of examples seen.

The bounds are exact (Clopper and Pearson), one-sided, and count independent examples only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]

#: One minus the confidence of every bound.
ALPHA = 0.01
#: Silence on this many examples excludes, with 99 % confidence, a firing rate of 1 % or more.
CERTAIN_EXAMPLES = 459


def firing_rate_upper(silent: npt.ArrayLike, alpha: float = ALPHA) -> Double:
    """Upper bound of the firing rate of a unit that was silent on every example.

    Args:
        silent: Number of examples, all silent. Any shape.
        alpha: One minus the confidence.

    Returns:
        ``1 - alpha ** (1 / silent)``; 1 where no example was seen.

    Example:
        >>> firing_rate_upper([0, 1, 459]).round(4).tolist()
        [1.0, 0.99, 0.01]
    """
    n = np.asarray(silent, np.float64)
    # expm1 keeps the bound accurate where it is tiny.
    bound = -np.expm1(np.log(alpha) / np.maximum(n, 1))
    return np.where(n > 0, bound, 1.0)


def rate_upper(fired: npt.ArrayLike, examples: npt.ArrayLike, alpha: float = ALPHA) -> Double:
    """Upper bound of the firing rate of a unit that fired on some of the examples.

    Args:
        fired: Number of examples on which it fired. Any shape.
        examples: Number of examples, broadcast against ``fired``.
        alpha: One minus the confidence.

    Example:
        >>> rate_upper([0, 3, 10], 10).round(3).tolist()
        [0.369, 0.703, 1.0]
    """
    k, n = np.broadcast_arrays(np.asarray(fired, np.float64), np.asarray(examples, np.float64))
    open_ended = k >= n
    from scipy import special  # nobody needs it while training

    bound = special.betaincinv(k + 1, np.where(open_ended, 1, n - k), 1 - alpha)
    return np.asarray(np.where(open_ended, 1.0, bound), np.float64)
