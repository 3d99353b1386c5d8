"""Site of a predictor in a model: stem, role, dimension and number of outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, eq=False)
class Site:
    """Where a predictor stands in a model.

    Attributes
    ----------
    stem : str
        What the names of its variables begin with.
    role : str
        What it predicts: ``"gate"``, ``"location"``, ``"scale"``, ...
    dim : str
        Dimension over its rows: experts, or branches of a gate.
    rows : int
        How many there are.
    each : bool
        Whether every row has parameters of its own, as experts have; rows of a gate share what is
        not a coefficient.
    mixing : array (internal, row) or None
        Takes internal rows to rows, if they are others: ``rows = mixing.T @ internal``.
    raw_dim : str or None
        Dimension over internal rows, if it is another.
    """

    stem: str
    role: str
    dim: str
    rows: int
    each: bool = False
    mixing: np.ndarray | None = None
    raw_dim: str | None = None

    @property
    def coef(self) -> str:
        """Name of the coefficients."""
        return names.coef(self.stem)

    @property
    def raw(self) -> str:
        """Name of the sampler's coefficients."""
        return names.raw(self.stem)

    @property
    def inner_dim(self) -> str:
        """Dimension over internal rows."""
        return self.raw_dim or self.dim
