"""Experts that collapse onto rows with one and the same response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.data.censored_response import is_observed
from bayes_moe.data.design import Design
from bayes_moe.data.responses import response_parts
from bayes_moe.diagnostics.coincidence import MOST_DRAWS, evenly
from bayes_moe.em.vector_layout import NARROW, SCALE_FLOOR
from bayes_moe.model.allocation import observed_responsibilities
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.defaults import role_of

LEAST_TIED = 3
"""Rows with one value from which they count as tied."""
LEAST_SHARE = 0.25
"""Share of an expert's rows that have one value, from which it may have collapsed onto them."""
SHARE_OF_GAP = 0.05
"""Width of an expert that has collapsed, in units of the gap to the next value: an expert of
rounded responses is wider."""
LEAST_DRAWS, MOST_ELEMENTS = 3, 10**7
"""Draws that are looked at, of a long table; draws x rows x experts of any other at most."""
MOST_VALUES = 20
"""Tied values that are looked at, those of most rows."""


@dataclass(frozen=True)
class Tie:
    """An expert whose spread collapses onto tied rows.

    ``rows`` of ``of`` rows have the response ``value``; ``parameter`` is the one that collapses,
    and ``unit`` the standard deviation of the response. ``has_priors`` is False for a plain
    likelihood.
    """

    expert: str
    parameter: str
    role: str
    has_formula: bool
    response: str
    value: float
    rows: int
    of: int
    unit: float
    has_priors: bool = True

    @property
    def message(self) -> str:
        """What happens, and the remedies."""
        role = role_of(self.role)
        falls = f"grows to its bound there ({SCALE_FLOOR**-2:.0e}; samplers have none)"
        if role.spread > 0:
            unit = "" if role.log_unit is None else " of the response's standard deviation"
            falls = f"falls to its floor there ({SCALE_FLOOR:.0e}{unit}; samplers have none)"
        return (
            f"{self.rows} of {self.of} rows have the value {self.value:.6g} of {self.response!r}: "
            f"expert {self.expert}'s {self.parameter} {falls}, since the density has no bound. "
            f"{self._prior()} If the values are rounded, add uniform noise of the width of "
            "the rounding to them. If the value is one of its own (as zero rainfall), add an "
            f"expert for it: bm.Expert({self.response!r}, {self._point_mass})."
        )

    @property
    def _point_mass(self) -> str:
        """Family of an expert of the value, as an argument."""
        return "'pointmass'" if self.value == 0 else f"bm.families.PointMass({self.value:g})"

    def _prior(self) -> str:
        """Remedy by a prior."""
        role = role_of(self.role)
        unit = 1.0 if role.log_unit is None else float(f"{self.unit:.2g}")
        if role.spread < 0:
            prior = "Exponential', lam=1"
        else:
            prior = f"InverseGamma', alpha=3, beta={unit:g}"
        give = "Give" if self.has_priors else "Use objective='posterior', and give"
        if self.has_formula:
            give = f"Leave out the formula of {self.parameter}. {give}"
        given = f"priors={{{self.parameter!r}: bm.Prior('{prior})}}"
        return f"{give} {self.parameter} a prior away from there: {given}."


def ties(
    spec: MixtureOfExperts, draws: Values, design: Design, *, has_priors: bool = True
) -> list[Tie]:
    """Experts that collapse onto tied rows, under draws (sample, ...) of the reported variables."""
    responses = np.atleast_2d(design.plain_response)
    if design.limits is not None:  # limits of censored responses may be equal
        responses = np.where(is_observed(design.response), responses, np.nan)
    each = (_ties_of(j, y, spec, draws, design) for j, y in enumerate(responses))
    return [replace(tie, has_priors=has_priors) for found in each for tie in found]


def _ties_of(
    response: int, y: np.ndarray, spec: MixtureOfExperts, draws: Values, design: Design
) -> list[Tie]:
    """Experts that collapse onto rows with tied values of a response (obs,)."""
    found = list[Tie]()
    collapsing = _collapsing(spec, response)
    distinct, position, count = np.unique(
        y, return_inverse=True, return_counts=True, equal_nan=False
    )
    tied = np.argsort(-count, kind="stable")[:MOST_VALUES]
    tied = tied[count[tied] >= LEAST_TIED]
    if not collapsing or not tied.size:
        return found
    samples = len(next(iter(draws.values())))
    most = MOST_ELEMENTS // (y.size * spec.n_experts)
    kept = evenly(samples, min(max(most, LEAST_DRAWS), MOST_DRAWS))
    draws = {name: value[kept] for name, value in draws.items()}
    unit = float(np.nanstd(y))
    taken, width = _on_values(spec, draws, design, _Tied(response, unit, position, tied))
    gaps = np.concatenate([[np.inf], np.diff(distinct[~np.isnan(distinct)]), [np.inf]])
    gap = np.minimum(gaps[tied], gaps[tied + 1])
    narrow = np.log(np.minimum(NARROW, SHARE_OF_GAP * gap / unit))
    for k, (parameter, role, has_formula) in collapsing.items():
        of_value = taken[k, :-1]
        j = int(of_value.argmax())
        share = of_value[j] / max(float(taken[k].sum()), 1e-300)
        if of_value[j] >= LEAST_TIED and share >= LEAST_SHARE and width[k, j] < narrow[j]:
            label, v = str(spec.expert_labels[k]), float(distinct[tied[j]])
            rows = int(count[tied[j]])
            name = response_parts(spec.response)[response]
            found.append(Tie(label, parameter, role, has_formula, name, v, rows, y.size, unit))
    return found


def _collapsing(spec: MixtureOfExperts, response: int) -> Mapping[int, tuple[str, str, bool]]:
    """By expert of a continuous family: its collapsing parameter, the role, and if by formula."""
    return {
        k: (c.variable if c.formula is None else c.stem, c.parameter.role, c.formula is not None)
        for block in spec.structure.blocks
        for c in block.components
        if c.parameter.response == response
        and role_of(c.parameter.role).collapses
        and not role_of(c.parameter.role).both_ends
        for k in block.positions
    }


@dataclass(frozen=True)
class _Tied:
    """Tied values of a response, and its unit: positions of the rows' values, and those tied."""

    response: int
    unit: float
    position: np.ndarray
    values: np.ndarray


def _on_values(
    spec: MixtureOfExperts, draws: Values, design: Design, of: _Tied
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that an expert takes of each tied value, and its mean log width there.

    Both are (expert, value), and averages over draws; the first has all other rows as the last
    column. Widths are in units of the response's standard deviation.
    """
    column = np.full(of.position.max() + 1, len(of.values))
    column[of.values] = np.arange(len(of.values))
    taken = np.zeros((spec.n_experts, len(of.values) + 1))
    log_width, samples = np.zeros_like(taken), len(next(iter(draws.values())))
    for where, part, mixture in chunks(spec, draws, design.rows):
        with np.errstate(all="ignore"):  # densities of a collapsed expert may be infinite
            share = np.nan_to_num(observed_responsibilities(mixture, part))
            scale = mixture.margin(of.response).moments("scale")
            width = np.log(np.maximum(scale / of.unit, np.finfo(float).tiny))
        of_row = np.eye(len(of.values) + 1)[column[of.position[where]]]
        taken += share.sum(axis=0) @ of_row
        log_width += (share * width).sum(axis=0) @ of_row
    mean = log_width / np.maximum(taken, np.finfo(float).tiny)
    return taken / samples, mean
