"""What terms that look back read of simulated paths: their sources, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.data.censored_response import limits_of
from bayes_moe.data.formula_values import expression_values
from bayes_moe.data.responses import response_parts
from bayes_moe.data.time_terms import TimeTerm
from bayes_moe.prediction.future_rows import FutureRows, histories, timeline_of
from bayes_moe.results.fit import Fit

Source = Callable[[np.ndarray, int], np.ndarray]
"""From responses (response, sample, series * path) of a step to values of a term's source."""


@dataclass(eq=False)
class PathSources:
    """Values of the sources of terms on all paths, those of the fitted rows first.

    ``values`` (row, sample, series * path) by the text of a source; rows are filled step by step.
    """

    terms: tuple[TimeTerm, ...]
    sources: dict[str, Source]
    reach: int
    values: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, fit: Fit, future: FutureRows, samples: int, paths: int) -> PathSources:
        """Sources of the terms that read responses to come, with what is known of them.

        Raises
        ------
        SpecError
            For sources that do not follow from the response.
        """
        terms, timeline = future.feedback, timeline_of(fit)
        reach = max(t.reach for t in terms)
        sources, values = {}, {}
        for term in terms:
            if term.source in sources:
                continue
            sources[term.source] = _source(fit, future, term, paths)
            shape = (reach + future.steps, samples, len(future.codes) * paths)
            values[term.source] = np.full(shape, np.nan)
        for term in terms:
            known = histories(fit, timeline, term, future.codes)
            rows = slice(reach - term.reach, reach)
            values[term.source][rows] = np.repeat(known, paths, axis=-1)[:, None]
        return cls(terms, sources, reach, values)

    def at(self, step: int) -> dict[str, np.ndarray]:
        """Values (sample, series * path) of the terms at a step, by name."""
        last = self.reach + step + 1
        return {t.name: t.of(self.values[t.source][last - t.reach - 1 : last]) for t in self.terms}

    def add(self, step: int, responses: np.ndarray) -> None:
        """Take the responses (response, sample, series * path) of a step."""
        for text, source in self.sources.items():
            self.values[text][self.reach + step] = source(responses, step)


def _source(fit: Fit, future: FutureRows, term: TimeTerm, paths: int) -> Source:
    """How the source of a term follows from simulated responses."""
    parts = _recorded(fit)
    levels = fit.design.levels
    numbers = None if levels is None else np.array(levels, dtype=float)

    def response(values: np.ndarray, j: int) -> np.ndarray:
        return values[j] if numbers is None else numbers[values[j].astype(np.int64)]

    if term.source in parts:
        position = parts.index(term.source)
        return lambda values, step: response(values, position)
    columns = {part.strip("`"): j for j, part in enumerate(parts)}
    hidden = [c for c in term.columns if c not in columns and c not in future.table]
    if hidden:
        raise SpecError(
            f"{term.name!r} reads {hidden[0]!r}, which does not follow from the simulated response "
            f"{fit.spec.response!r}: look back at the response as it is in the formula, as in "
            f"lag({parts[0]}, 1), or make the transformed response a column of the table."
        )

    def evaluated(values: np.ndarray, step: int) -> np.ndarray:
        import pandas as pd

        rows, table = future.by_step[step], {}
        for name in term.columns:
            if name in columns:
                table[name] = response(values, columns[name]).ravel()
            else:
                own = future.table[name].to_numpy(dtype=float)[rows]
                table[name] = np.tile(np.repeat(own, paths), values.shape[1])
        found = expression_values(pd.DataFrame(table), term.source, fit.spec.functions)
        return np.broadcast_to(found, values[0].size).reshape(values[0].shape)

    return evaluated


def _recorded(fit: Fit) -> tuple[str, ...]:
    """Texts of the responses as they are recorded: of a censored one its column of values."""
    limits = limits_of(fit.spec.response)
    if limits is None:
        return response_parts(fit.spec.response)
    return (limits.value,) if limits.value is not None else ("",)
