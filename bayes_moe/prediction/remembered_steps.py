"""Outputs of predictors with memory on simulated paths, one step after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Matrix
from bayes_moe.model.memory import last_experts
from bayes_moe.prediction.filtered_ends import filtered_ends
from bayes_moe.prediction.future_rows import FutureRows
from bayes_moe.predictors.stepwise import Steps, Stepwise
from bayes_moe.results.fit import Fit


def ends_of(fit: Fit, future: FutureRows, draws: Values) -> np.ndarray:
    """Probabilities (sample, expert, series) of the last fitted rows' experts, of a Markov gate."""
    structure = fit.spec.structure
    if any(predictor.has_memory for _, predictor in structure.sites):
        # Log densities of the experts depend on all rows before, so all of these are read.
        return np.swapaxes(last_experts(structure, draws, future.rows), -1, -2)
    return filtered_ends(structure, draws, fit.design.rows, future.codes)


@dataclass(frozen=True, eq=False)
class RememberedSteps:
    """What each predictor with memory carries, by stem; none in a model without."""

    carried: Mapping[str, Steps]

    @classmethod
    def of(cls, fit: Fit, future: FutureRows, draws: Values, paths: int) -> RememberedSteps:
        """What is carried after the last fitted rows of series, for so many paths of each draw.

        Raises
        ------
        SpecError
            For predictors that cannot be evaluated step by step.
        """
        rows = fit.design.rows
        series = rows.observation.series
        carried = {}
        for site, predictor in fit.spec.structure.sites:
            if predictor.has_memory:
                assert series is not None
                own = [np.flatnonzero(series == code) for code in future.codes]
                last = np.array([at[-1] if len(at) else -1 for at in own])
                b = site.bind(rows.matrices[site.stem])
                if not isinstance(predictor, Stepwise):
                    raise SpecError(
                        f"{predictor!r} of {site.stem!r} cannot be evaluated row by row: forecasts "
                        "with it are not supported where terms look back at responses ahead. "
                        "Forecast as many steps as these look back."
                    )
                carried[site.stem] = predictor.steps(b, draws, last, paths)
        return cls(carried)

    def read_by(self, matrices: Mapping[str, Matrix]) -> dict[str, Matrix]:
        """Matrices of the next step, with the outputs of predictors with memory."""
        known = {
            s: replace(matrices[s], outputs=w.step(matrices[s])) for s, w in self.carried.items()
        }
        return {**matrices, **known}
