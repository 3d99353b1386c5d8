"""Features that differ by draw: rows of simulated paths, of which each draw has its own."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from bayes_moe.data.matrix import Matrix


@dataclass(frozen=True)
class PathMatrix(Matrix):
    """Features of one predictor on paths, of which each of ``samples`` draws has rows of its own.

    ``values`` (sample * path, term) are the paths of one draw after those of another. ``groups``
    are those of the paths of one draw, which all draws share, and so is ``offset`` (path, output or
    1), unless it is (sample * path, output or 1).
    """

    samples: int = 1

    @classmethod
    def of(
        cls, matrix: Matrix, values: np.ndarray, samples: int, offset: np.ndarray | None = None
    ) -> PathMatrix:
        """Features ``values`` (sample * path, term) beside what a matrix of the paths says else."""
        own = {f.name: getattr(matrix, f.name) for f in fields(Matrix)}
        own |= {"values": values, "span": matrix.range}
        own |= {} if offset is None else {"offset": offset}
        return cls(**own, samples=samples)

    @property
    def paths(self) -> int:
        """Number of paths of a draw."""
        return len(self.values) // self.samples

    def by_sample(self, values: np.ndarray) -> np.ndarray:
        """Values (sample, path, ...) from those of all rows (sample * path, ...)."""
        return values.reshape(self.samples, self.paths, *values.shape[1:])

    def of_sample(self, sample: int) -> Matrix:
        """Features of the paths of one draw."""
        own = {f.name: getattr(self, f.name) for f in fields(Matrix)}
        which = slice(sample * self.paths, (sample + 1) * self.paths)
        offset = self.offset
        if offset is not None and len(offset) > self.paths:
            offset = offset[which]
        return Matrix(**(own | {"values": self.values[which], "offset": offset}))

    def product(self, coef: np.ndarray) -> np.ndarray:
        """Sums (sample * output, path) of features times coefficients (sample * output, term)."""
        by_sample = coef.reshape(self.samples, -1, coef.shape[-1])
        sums: np.ndarray = np.matmul(by_sample, np.swapaxes(self.by_sample(self.values), -1, -2))
        return sums.reshape(len(coef), -1)

    def column(self, j: int) -> np.ndarray:
        return self.by_sample(self.values[:, j])[:, None]

    @property
    def offset_by_output(self) -> np.ndarray | None:
        offset = self.offset
        if offset is None or len(offset) == self.paths:
            return super().offset_by_output
        return np.swapaxes(self.by_sample(offset), -1, -2)


def repeated(matrix: Matrix, times: int) -> Matrix:
    """Each row of a matrix so many times."""
    if times == 1:
        return replace(matrix, span=matrix.range)
    return matrix.pick(np.repeat(np.arange(len(matrix.values)), times))
