"""The mixture as one observed random variable of a PyMC model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import along_rows, log_softmax
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.gates.transitions import STATIONARY, Transitions
from bayes_moe.model.allocation import symbolic_log_marginal
from bayes_moe.model.blocks import Block
from bayes_moe.model.likelihood import log_components, log_mixture, log_recorded

LIKELIHOODS = ("fused", "symbolic")
"""``"fused"``: one operation with its derivatives; ``"symbolic"``: formulas in PyTensor."""


@dataclass(frozen=True)
class _InputOrder:
    """Order of the parameters of blocks among the inputs of the random variable.

    ``keys`` are the position of a block and the name of its parameter.
    """

    blocks: tuple[Block, ...]
    keys: tuple[tuple[int, str], ...]
    by_group: bool = False
    """Whether the input after the logits is the first row of each row's group."""
    chain: Transitions | None = None
    """The gate's Markov chain; the input after the logits then is the series of each row."""

    def pack(self, params: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Parameters (obs, expert) or (1, expert): rows lead in a random variable's inputs.

        Those with labels are (obs, expert, label).
        """
        return [params[j][name].T for j, name in self.keys]

    def split(self, inputs: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        """First row of each row's group, or its series, or None, and the inputs after it."""
        has = self.by_group or self.chain is not None
        return (inputs[0], inputs[1:]) if has else (None, inputs)

    def unpack(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Parameters of every block by name, as they are among the inputs."""
        params: list[dict[str, Any]] = [{} for _ in self.blocks]
        for (j, name), value in zip(self.keys, inputs, strict=True):
            params[j][name] = value
        return params

    @property
    def signature(self) -> str:
        """Signature of the random variable; known counts of rows are the same for all experts."""
        leader = ["()"] if self.by_group or self.chain is not None else []
        inputs = [
            "(k)" if self.chain is None else "(moves)",
            *leader,
            *(self._core(j, name) for j, name in self.keys),
        ]
        return ",".join(inputs) + (f"->({self.last_dim})" if self.several else "->()")

    @property
    def last_dim(self) -> str:
        """Dimension over several numbers of a row."""
        return names.LIMIT_DIM if self.censored else names.RESPONSE_DIM

    @property
    def several(self) -> bool:
        """Whether a row has several numbers, along the last axis of the random variable."""
        return self.blocks[0].family.takes_responses or self.censored

    @property
    def censored(self) -> bool:
        """Whether the numbers are what is known of a response."""
        return self.blocks[0].family.is_censored

    def rows_last(self, value: Any) -> Any:
        """Responses as densities take them, of the random variable's value (obs, ...)."""
        return value.T if self.several else value

    def _core(self, j: int, name: str) -> str:
        """Dimensions of an input without that over rows."""
        family = self.blocks[j].family
        if name in family.known_counts:
            return f"(one{j})"
        labelled = name not in family.fixed and family.parameter(name).labels
        return f"(k{j},{name}{j})" if labelled else f"(k{j})"

    def experts(self, logits: Any, leader: Any) -> Any:
        """Symbolic draw (obs,) of the expert of each row; ``leader`` is that of :meth:`split`."""
        import pymc as pm

        if self.chain is not None:
            from bayes_moe.graph.chain_draws import drawn_path

            is_stationary = self.chain.initial == STATIONARY
            return drawn_path(logits, leader, self.chain.n_experts, is_stationary)
        expert = pm.Categorical.dist(logit_p=logits)
        return expert if leader is None else expert[leader]

    def draw(self, logits: Any, *inputs: Any) -> Any:
        """Symbolic draw (obs,) or (obs, response): of every expert, the gate chooses one.

        Of a censored or truncated response, it is of the response itself, as if it were observed.
        """
        import pytensor.tensor as pt

        leader, rest = self.split(inputs)
        full = [  # the last one is the size
            along_rows(x.T, logits[:, 0]).T if x.ndim == 2 else x for x in rest[:-1]
        ]
        params = self.unpack(full)
        parts = [b.family.dist(p) for b, p in zip(self.blocks, params, strict=True)]
        expert = self.experts(logits, leader)
        if self.censored:
            # Ends may be infinite: PyMC gives observed values the type of the draws.
            draws = pt.cast(pt.concatenate(parts, axis=-1), "float64")
            drawn = pt.take_along_axis(draws, expert[..., None], axis=-1)
            open_ends = [] if self.blocks[0].family.truncation is None else [-np.inf, np.inf]
            ends = [drawn, drawn, *(pt.full_like(drawn, end) for end in open_ends)]
            return pt.concatenate(ends, axis=-1)
        if self.several:
            draws = pt.concatenate(parts, axis=-2)
            return pt.take_along_axis(draws, expert[..., None, None], axis=-2)[..., 0, :]
        draws = pt.concatenate(parts, axis=-1)
        return pt.take_along_axis(draws, expert[..., None], axis=-1)[..., 0]


IMPOSSIBLE = np.array(-1e100)
"""Logarithm of the density of an expert that a row cannot have: finite, for derivatives."""


@dataclass(frozen=True)
class Observed:
    """The responses of a model's rows, as tensors.

    ``values`` are (obs,), or (obs, response) of several responses. With a ``total_size`` they are a
    batch of so many rows, and their log likelihood is scaled up to that of all. If they are not
    ``known``, they only say how many rows there are. ``weights`` are (obs,), or None if all are 1.
    ``leader`` (obs,) is the position of the first row of each row's group, and ``expert`` (obs,)
    that of each row's expert or -1; None where rows have no groups, and no known experts. With the
    ``chain`` of a gate, ``series`` (obs,) is the number of each row's series.
    """

    values: Any
    total_size: int | None = None
    known: bool = True
    weights: Any = None
    leader: Any = None
    expert: Any = None
    chain: Transitions | None = None
    series: Any = None


def observed_mixture(
    blocks: Sequence[Block],
    logits: Any,
    params: Sequence[dict[str, Any]],
    observed: Observed,
    likelihood: str,
) -> Any:
    """Create the response of the current model: an observed variable with dims (obs,).

    Of several responses its dims are (obs, response), as those of ``observed``.
    ``logits`` and every parameter are (expert, obs) or (expert, 1), with the experts in the
    order of the blocks; known counts are (1, obs) or (1, 1). The variable is a free one if the
    responses are not known. Its log density is that of each row times its weight; of a group of
    rows that share an expert it is at the first row, and zero at the others. Logits of a chain are
    those of its moves (from and to, obs), and the log density of a row is given those before.
    """
    import pymc as pm
    import pytensor.tensor as pt

    keys = tuple((j, n) for j, p in enumerate(params) for n in p)
    order = _InputOrder(tuple(blocks), keys, observed.leader is not None, observed.chain)
    log_density = _fused if likelihood == "fused" else _symbolic
    leader = [x for x in (observed.leader, observed.series) if x is not None]

    def logp(value: Any, gate: Any, *inputs: Any) -> Any:
        y, (first, rest) = order.rows_last(value), order.split(inputs)
        logits, unpacked = gate.mT, order.unpack([x.T for x in rest])
        others = _of_others(observed.expert, sum(len(b.positions) for b in blocks))
        if observed.chain is not None:  # of a row given those before
            by_row = chain_outputs(y, blocks, logits, unpacked, (observed.chain, first))[0]
        elif first is not None:
            by_row = _of_groups(y, blocks, (logits, others), unpacked, first)
        elif others is None:
            by_row = log_density(y, blocks, logits, unpacked)
        else:  # the weight of those that a row can have, and their mixture
            possible = logits + others
            by_row = log_density(y, blocks, possible, unpacked) + _log_share(possible, logits)
        return by_row if observed.weights is None else by_row * observed.weights

    rows, batch = observed.values, observed.total_size is not None
    return pm.CustomDist(
        names.RESPONSE,
        along_rows(logits, rows[:, 0] if order.several else rows).T,
        *leader,
        *order.pack(params),
        dist=order.draw,
        logp=logp,
        signature=order.signature,
        support_point=lambda rv, *_: pt.zeros(rv.shape),
        class_name="MixtureOfExperts",
        observed=rows if observed.known else None,
        dims=None if batch else (names.OBS, *_response_dims(order)),
        total_size=observed.total_size,
    )


def _response_dims(order: _InputOrder) -> tuple[str, ...]:
    return (order.last_dim,) if order.several else ()


def _of_others(expert: Any, count: int) -> Any:
    """What is added to logits (expert, obs) of known experts: far below zero for all others."""
    if expert is None:
        return None
    import pytensor.tensor as pt

    other = pt.neq(expert, np.arange(count)[:, None]) & pt.ge(expert, 0)
    return pt.where(other, IMPOSSIBLE, 0.0)


def _of_groups(
    y: Any,
    blocks: Sequence[Block],
    gate: tuple[Any, Any],
    params: Sequence[Mapping[str, Any]],
    leader: Any,
) -> Any:
    """Log density (obs,) of rows that share an expert by group.

    ``gate`` are logits, and what is added to log densities of experts that a row cannot have.
    """
    xp, (logits, others) = symbolic_arrays(), gate
    densities = log_components(y, blocks, params, xp)
    densities = densities if others is None else densities + others
    weights = log_softmax(logits, xp)
    value, recorded = (
        symbolic_log_marginal(weights, densities, leader),
        log_recorded(y, blocks, params, xp),
    )
    return value if recorded is None else value - symbolic_log_marginal(weights, recorded, leader)


def chain_outputs(
    y: Any,
    blocks: Sequence[Block],
    logits: Any,
    params: Sequence[Mapping[str, Any]],
    chain: tuple[Transitions, Any],
) -> tuple[Any, Any]:
    """Log density (obs,) of rows given those before, and log predicted weights (expert, obs).

    ``logits`` (from and to, obs) are those of transitions, and ``chain`` the gate's with the series
    (obs,) of rows.
    """
    from bayes_moe.graph.chain_op import chain_values

    transitions, series = chain
    rows = y[0] if y.ndim > 1 else y
    densities = along_rows(log_components(y, blocks, params, symbolic_arrays()), rows)
    return chain_values(densities, logits, series, transitions.initial == STATIONARY)


def _symbolic(
    y: Any, blocks: Sequence[Block], logits: Any, params: Sequence[Mapping[str, Any]]
) -> Any:
    """Log density (obs,) of the mixture by its formulas."""
    xp = symbolic_arrays()
    weights = log_softmax(logits, xp)
    density = log_mixture(weights, log_components(y, blocks, params, xp), xp)
    recorded = log_recorded(y, blocks, params, xp)
    return density if recorded is None else density - log_mixture(weights, recorded, xp)


def _fused(
    y: Any, blocks: Sequence[Block], logits: Any, params: Sequence[Mapping[str, Any]]
) -> Any:
    """Log density (obs,) by one operation; by the formulas if a family has no kernel."""
    from bayes_moe.kernels.families import has_kernel

    families = [f for b in blocks for f in (b.family, b.family.truncation) if f is not None]
    if not all(has_kernel(f) and not f.takes_responses for f in families):
        return _symbolic(y, blocks, logits, params)
    from bayes_moe.graph.family_group import FamilyGroup
    from bayes_moe.graph.fused_op import fused_mixture

    xp = symbolic_arrays()
    parts, limits = [], []
    for block, named in zip(blocks, params, strict=True):
        places, etas = (block.positions[0], block.positions[-1] + 1), block.family.etas(named, xp)
        parts.append((FamilyGroup(block.family, *places), etas, block.data(y, named, xp)))
        if block.family.truncation is not None:
            data = block.family.truncation.data(y, named, xp)
            limits.append((FamilyGroup(block.family.truncation, *places), etas, data))
    rows = y[0] if y.ndim > 1 else y
    density = fused_mixture(rows, logits, parts)
    return density - fused_mixture(rows, logits, limits) if limits else density


def _log_share(possible: Any, logits: Any) -> Any:
    """Log of the share (obs,) of the weights of experts that rows can have, from logits."""
    xp = symbolic_arrays()
    return xp.logsumexp(possible, axis=-2) - xp.logsumexp(logits, axis=-2)
