"""Orthonormal basis of the numbers that sum to zero over many classes, without its matrix."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from scipy.linalg import helmert

from bayes_moe.core.errors import SpecError

LARGEST_BASIS = 2**22
"""Elements of a basis up to which it is a matrix (32 MiB)."""


class ZeroSumBasis:
    """``kron(helmert(classes), eye(experts))`` (direction, output), by sums in its place.

    Directions are (contrast, expert) and outputs (class, expert). The contrast ``i`` is the sum of
    the first ``i`` classes less ``i`` times the next, divided by ``sqrt(i (i + 1))``. Products with
    arrays take a time proportional to their size.

    Parameters
    ----------
    classes, experts : int
        Numbers of classes and of experts.
    """

    __array_ufunc__ = None  # NumPy leaves products with `@` to this class

    def __init__(self, classes: int, experts: int) -> None:
        self.classes, self.experts = classes, experts
        self.shape = ((classes - 1) * experts, classes * experts)
        self._i = np.arange(1.0, classes)
        self._norm = np.sqrt(self._i * (self._i + 1))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise self.too_large()

    @property
    def T(self) -> NoReturn:  # noqa: N802
        """Refused: what transposes a basis makes matrices of its size."""
        raise self.too_large()

    def too_large(self) -> SpecError:
        """Error for what would need the matrix."""
        return SpecError(
            f"{self.classes} classes by {self.experts} experts need the method 'em' with constant "
            "class probabilities, a formula 'y ~ 1': other methods and graphs have matrices over "
            "all of these coefficients."
        )

    def __rmatmul__(self, internal: Any) -> np.ndarray:
        """Outputs (..., output) of internal coefficients (..., direction)."""
        internal = np.asarray(internal)
        lead = internal.shape[:-1]
        z = internal.reshape(*lead, self.classes - 1, self.experts) / self._norm[:, None]
        outputs = np.zeros((*lead, self.classes, self.experts))
        outputs[..., :-1, :] = np.cumsum(z[..., ::-1, :], axis=-2)[..., ::-1, :]
        outputs[..., 1:, :] -= self._i[:, None] * z
        return outputs.reshape(*lead, self.shape[1])

    def unmixed(self, outputs: np.ndarray) -> np.ndarray:
        """Internal coefficients (..., direction, term) of outputs (..., output, term)."""
        lead, terms = outputs.shape[:-2], outputs.shape[-1]
        values = outputs.reshape(*lead, self.classes, self.experts, terms)
        before = np.cumsum(values, axis=-3)[..., :-1, :, :]
        i, norm = self._i[:, None, None], self._norm[:, None, None]
        internal: np.ndarray = (before - i * values[..., 1:, :, :]) / norm
        return internal.reshape(*lead, self.shape[0], terms)


def zero_sum_basis(classes: int, experts: int) -> Any:
    """The matrix ``kron(helmert(classes), eye(experts))``, or what multiplies like it if large."""
    if (classes - 1) * classes * experts**2 <= LARGEST_BASIS:
        return np.kron(helmert(classes), np.eye(experts))
    return ZeroSumBasis(classes, experts)
