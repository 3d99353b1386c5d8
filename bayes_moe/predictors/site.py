"""Site: where in the model a predictor is used. Binding: a site with features and response."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Values
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.core.samples import Sample, sample_of
from bayes_moe.data.matrix import Matrix
from bayes_moe.data.path_matrix import PathMatrix
from bayes_moe.priors.defaults import Units, units_of

NO_RESPONSE = Sample(np.zeros(0))


@dataclass(frozen=True, eq=False)
class Site:
    """Names, role and number of outputs of one predictor of a model.

    Attributes
    ----------
    stem : str
        Prefix of the names of its variables.
    role : str
        What it predicts: ``"gate"``, ``"location"``, ``"scale"``, ...
    dim : str
        Dimension over its outputs: experts, or branches of a gate.
    outputs : int
        Number of outputs.
    each : bool
        Whether every output has hyperparameters of its own, as experts have; outputs of a gate
        share what is not a coefficient.
    mixing : array (internal, output), ZeroSumBasis or None
        Matrix from internal outputs to outputs, ``outputs = mixing.T @ internal``; None if they
        are the same.
    raw_dim : str or None
        Dimension over internal outputs, if it is another.
    """

    stem: str
    role: str
    dim: str
    outputs: int
    each: bool = False
    mixing: Any = None
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
    def internal_dim(self) -> str:
        """Dimension over internal outputs."""
        return self.raw_dim or self.dim

    @property
    def lead(self) -> tuple[str, ...]:
        """First dimensions of the hyperparameters."""
        return (self.dim,) if self.each else ()

    @property
    def lead_shape(self) -> tuple[int, ...]:
        """Sizes of the first dimensions of the hyperparameters."""
        return (self.outputs,) if self.each else ()

    def bind(self, matrix: Matrix, response: Sample | np.ndarray = NO_RESPONSE) -> Binding:
        """Return the site with the features of some rows, and the response of the fitted ones."""
        return Binding(self, matrix, sample_of(response))


@dataclass(frozen=True, eq=False)
class Binding:
    """A site with the features of some rows.

    Attributes
    ----------
    site : Site
        Where in the model the predictor is used.
    matrix : Matrix
        Features of the rows; they know the centre, scale and range of the fitted rows.
    response : Sample
        Response of the fitted rows, for units and default priors; empty where only eta is needed.
    """

    site: Site
    matrix: Matrix
    response: Sample

    @cached_property
    def units(self) -> Units:
        """Internal units of the predictor, and its default prior in them."""
        matrix = self.matrix
        return units_of(self.site.role, self.response, matrix.intercept is not None, matrix.level)

    @property
    def offset(self) -> np.ndarray | None:
        """Offset (output, obs) of the formula, or (1, obs) for all outputs alike; None without.

        Of paths that differ by draw it is (sample, output or 1, path).
        """
        offset = self.matrix.offset_by_output
        return None if offset is None else self._by_output(offset)

    def evaluated(self, predictor: Any, draws: Values) -> np.ndarray:
        """Return a predictor (sample, output, obs) of draws, with the formula's offset.

        It may be known: see :mod:`bayes_moe.model.memory`. Of a
        :class:`bayes_moe.data.path_matrix.PathMatrix` it is (sample, output, path).
        """
        known = self.matrix.outputs
        if known is None:
            each = isinstance(self.matrix, PathMatrix) and not predictor.on_paths
            known = each_draw(predictor, self, draws) if each else predictor.evaluate(self, draws)
        eta = known
        return self.shifted(eta)

    def shifted(self, eta: np.ndarray) -> np.ndarray:
        """Return the predictor (..., output, obs) from that without the formula's offset."""
        offset = self.offset
        return eta if offset is None else eta + offset

    def unshifted(self, eta: np.ndarray) -> np.ndarray:
        """Return the predictor (..., output, obs) without the formula's offset."""
        offset = self.offset
        return eta if offset is None else eta - offset

    def built(self, eta: Any, context: GraphContext = CONSTANTS) -> Any:
        """Return the predictor (output, obs) of the current PyMC model; see :meth:`shifted`."""
        offset = self.matrix.offset
        if offset is None:
            return eta
        name = names.offset(self.site.stem)
        dims = (names.OBS, names.part(name, names.COLUMN))
        if offset.shape[1] == 1:
            return eta + context.data(name, offset[:, 0], dims[0])[None]
        return eta + self._by_output(context.data(name, offset, dims).T)

    def _by_output(self, offset: Any) -> Any:
        """Offset (output or 1, obs) from its columns (column, obs).

        Outputs are (label, expert) where a column is that of a label.
        """
        assert self.matrix.offset is not None
        width, outputs = self.matrix.offset.shape[1], self.site.outputs
        return (
            offset
            if width in (1, outputs)
            else offset.repeat(outputs // width, axis=offset.ndim - 2)
        )


def each_draw(predictor: Any, b: Binding, draws: Values) -> np.ndarray:
    """Predictor (sample, output, path) on paths, one draw after the other."""
    matrix = b.matrix
    assert isinstance(matrix, PathMatrix)
    parts = [
        predictor.evaluate(
            replace(b, matrix=matrix.of_sample(j)), {n: v[j : j + 1] for n, v in draws.items()}
        )
        for j in range(matrix.samples)
    ]
    return np.concatenate(parts)
