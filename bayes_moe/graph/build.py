"""PyMC models from descriptions and designs; the only ``pm.Model()`` of the package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import log_softmax, symbolic
from bayes_moe.core.dim_pairs import NO_PAIRS, DimPairs
from bayes_moe.core.errors import SpecError
from bayes_moe.core.graph_context import GraphContext
from bayes_moe.core.samples import Sample
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.data.responses import value_dims
from bayes_moe.data.sparse_matrix import check_no_sparse
from bayes_moe.graph.constrained_variables import constrained_variables
from bayes_moe.graph.mixture_variable import Observed, chain_outputs, observed_mixture
from bayes_moe.model.allocation import ByGroup
from bayes_moe.model.blocks import Block
from bayes_moe.model.free_values import free_values
from bayes_moe.model.internal_values import internal_values
from bayes_moe.model.likelihood import log_components
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.prior import Prior

_ONE_AT_A_TIME = Lock()
"""PyTensor functions are not thread-safe, and samplers call ``unconstrained`` from threads."""


@dataclass(frozen=True)
class Graph:
    """A plain PyMC model, with the mixture's symbolic weights and densities.

    Attributes
    ----------
    spec, design
        The description and the data of the model.
    priors : mapping of str to Prior
        Prior of every reported variable, defaults included; none in a graph of a fit.
    model : pymc.Model
        The model; its response is the observed variable ``y``.
    log_weights : TensorVariable
        Symbolic gate log weights (expert, obs); of a Markov gate, given the rows before.
    log_densities : TensorVariable
        Symbolic log density of the observed response under each expert (expert, obs); of zeros
        where the rows of a graph of a fit have no response.
    pairs : DimPairs
        The two dimensions of reported variables for one of internal ones.
    """

    spec: MixtureOfExperts
    design: Design
    priors: Mapping[str, Prior]
    model: Any
    log_weights: Any
    log_densities: Any
    pairs: DimPairs = NO_PAIRS

    def __repr__(self) -> str:
        return (
            f"Graph({self.design.rows.size} rows, {self.spec.structure.counted})\n{self.spec!r}\n"
            + "\n".join(f"{name} ~ {prior!r}" for name, prior in self.priors.items())
        )

    def free_values(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the model's free variables at reported ones (both on their natural scale).

        Reported values are of the shapes that they have in the model.
        """
        wanted = {rv.name for rv in self.model.free_RVs}
        reported = {n: np.asarray(values[n]) for n in self.spec.variables if n in wanted}
        if len(reported) == len(wanted):
            return reported
        dims, own = self.spec.structure.dims, {*self.spec.variables} & {*values}
        flat = {n: self.pairs.internal(np.asarray(values[n]), dims[n]) for n in own}
        internal = internal_values(self.spec, self.design, self.priors, {**values, **flat})
        free = free_values(self.spec, self.design, self.priors)
        internal |= {} if free is None else free.of_internal(internal)
        internal |= {n: self.pairs.reported(v, dims[n]) for n, v in internal.items() if n in own}
        return {n: v for n, v in (internal | reported).items() if n in wanted}

    def unconstrained(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the model's value variables at reported values.

        They are the argument of ``model.compile_logp()``. The method is thread-safe.
        """
        free = self.free_values(values)
        model = self.model
        with _ONE_AT_A_TIME:
            transformed = self._transform(*(free[rv.name] for rv in model.free_RVs))
        return {
            model.rvs_to_values[rv].name: np.asarray(x)
            for rv, x in zip(model.free_RVs, transformed, strict=True)
        }

    @property
    def structure(self) -> str:
        """Key of the compiled functions: the description without numbers, and the terms.

        Graphs of the same structure differ in their :meth:`data` only.
        """
        description = self.spec.to_dict()
        every = dict(self.spec.priors) | dict(self.priors)
        description["priors"] = {name: prior.distribution for name, prior in every.items()}
        terms = {stem: list(m.terms) for stem, m in self.design.rows.matrices.items()}
        return json.dumps([description, terms], sort_keys=True)

    def data(self, wanted: Iterable[str]) -> dict[str, np.ndarray]:
        """Values of the shared variables ``wanted``, by name."""
        from pytensor.compile.sharedvalue import SharedVariable
        from pytensor.graph.traversal import ancestors

        model = self.model
        shared = {
            v.name: v
            for v in ancestors([*model.basic_RVs, *model.deterministics, *model.data_vars])
            if isinstance(v, SharedVariable)
        }
        return {name: shared[name].get_value() for name in wanted}

    def to_vector(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Unconstrained vector at reported values, in the order of the free variables."""
        return np.concatenate([v.ravel() for v in self.unconstrained(values).values()])

    @cached_property
    def _transform(self) -> Any:
        """Function from free variables to their unconstrained values, run by Python."""
        import pytensor
        from pytensor.compile.mode import Mode
        from pytensor.graph.replace import clone_replace

        free = self.model.free_RVs
        values = {rv: rv.type() for rv in free}
        transforms = [self.model.rvs_to_transforms[rv] for rv in free]
        outputs = [
            values[rv] if t is None else t.forward(values[rv], *rv.owner.inputs)
            for rv, t in zip(free, transforms, strict=True)
        ]
        # A transform may depend on other variables, as that of coefficients on their spreads.
        outputs = clone_replace(outputs, replace=values)
        # Compiling to C would take longer than all calls, of which there is one a start.
        mode = Mode(linker="py", optimizer="fast_compile")
        return pytensor.function([*values.values()], outputs, mode=mode, on_unused_input="ignore")


def build_design(
    spec: MixtureOfExperts,
    design: Design,
    likelihood: str,
    *,
    replaceable: bool = False,
    batch_size: int | None = None,
) -> Graph:
    """Model of a design whose free variables are the sampler's, on centred and scaled features.

    With ``replaceable``, all its numbers are shared variables. With a ``batch_size`` its log
    likelihood is that of a random batch of rows, drawn at every evaluation, times rows over batch
    size: an unbiased estimate of that of all rows.
    """
    return build_model(
        spec, design, design.rows, likelihood, GraphContext(replaceable), batch_size=batch_size
    )


def build_model(
    spec: MixtureOfExperts,
    design: Design,
    rows: Rows,
    likelihood: str,
    context: GraphContext,
    *,
    batch_size: int | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Graph:
    """Model of some rows; priors and units are those of a design.

    ``coords`` are labels along dimensions that do not follow from the rows.
    """
    import pymc as pm

    check_no_sparse(rows, "PyMC's graph of a model")
    # A placeholder: the variables of a fit have no prior.
    unit = dict.fromkeys(spec.variables, Prior("Normal", sigma=1.0))
    priors = unit if context.given else spec.resolve_priors(design)
    shown = replace(design, rows=rows)
    dims, labels = value_dims(spec.response)
    response = _responses(rows, labels)
    with pm.Model(coords=dict(coords or {}) | spec.structure.coords(shown) | labels) as model:
        observed, total = pm.Data(f"{names.RESPONSE}_data", response, dims=dims), None
        if context.mark is not None:
            model.register_data_var(context.mark)
        if batch_size is not None:
            observed, chosen = pm.Minibatch(observed, np.arange(rows.size), batch_size=batch_size)
            context, total = replace(context, batch=chosen), rows.size
        free = None if context.given else free_values(spec, design, priors)
        if free is not None:
            context = replace(context, made=constrained_variables(free, priors, context))
        parts = _Parts(rows.matrices, design, priors, context, _weights(rows, context))
        logits = spec.structure.gate.build(rows.matrices, design.first_sample, priors, context)
        logits = _with_features(spec, rows, _with_staying(spec, logits, rows), parts)
        params = [
            parts.of(part.block, part.own_response(design.rows))
            for part in spec.structure.factors
            if part.column is None
        ]
        chain = spec.structure.gate.chain
        moves = None if chain is None else (chain, _series(rows, context))
        sharing = (parts.weights, *_sharing(rows, context), *(moves or (None, None)))
        seen = Observed(observed, total, rows.response is not None, *sharing)
        observed_mixture(spec.structure.blocks, logits, params, seen, likelihood)
    y = observed.T if len(dims) > 1 else observed
    arrays = _mixture_of(y, spec.structure.blocks, logits, params, moves)
    return Graph(spec, shown, {} if context.given else priors, model, *arrays, context.pairs)


def _responses(rows: Rows, labels: Mapping[str, Any]) -> np.ndarray:
    """Responses (obs, ...) of rows, zero where they are not known."""
    if rows.response is not None:
        return rows.observed.T
    return np.zeros((rows.size, *map(len, labels.values())))


def _mixture_of(
    y: Any, blocks: Sequence[Block], logits: Any, params: Sequence[dict[str, Any]], moves: Any
) -> tuple[Any, Any]:
    """Log weights and log densities (expert, obs); ``moves`` are a chain and series, or None."""
    log_densities = log_components(y, blocks, params, symbolic())
    if moves is None:
        return log_softmax(logits, symbolic()), log_densities
    return chain_outputs(y, blocks, logits, params, moves)[1], log_densities


@dataclass(frozen=True, eq=False)
class _Parts:
    """What the random variables of every block of a model are made of.

    ``weights`` are those of the rows in the current PyMC model; None if all are 1.
    """

    matrices: Mapping[str, Matrix]
    design: Design
    priors: Mapping[str, Prior]
    context: GraphContext
    weights: Any

    def of(self, block: Block, response: Sample) -> dict[str, Any]:
        """Parameters of a block, whose units are those of a response of the design's rows."""
        return block.build(self.matrices, response, self.priors, self.context)


def _weights(rows: Rows, context: GraphContext) -> Any:
    """Weights (obs,) of rows in the current PyMC model; None if all are 1."""
    if rows.weights is None:
        return None
    return context.data(names.ROW_WEIGHTS, rows.weights, dims=names.OBS)


def _sharing(rows: Rows, context: GraphContext) -> tuple[Any, Any]:
    """First row of each row's group, and each row's known expert, in the current PyMC model."""
    seen = rows.observation
    leader, expert = seen.group, seen.expert
    if leader is not None:
        leader = ByGroup.of(leader).leader
        leader = context.data(names.FIRST_OF_GROUP, leader, dims=names.OBS)
    if expert is not None:
        expert = context.data(names.KNOWN_EXPERT, expert, dims=names.OBS)
    return leader, expert


def _series(rows: Rows, context: GraphContext) -> Any:
    """Number of each row's series in the current PyMC model."""
    if context.batch is not None or rows.before is not None:
        raise SpecError(
            "The rows of a graph with a Markov gate must be whole series: leave batch_size out, "
            "and use bm.predict and bm.log_density for rows that continue fitted series."
        )
    if rows.sequences is None:
        raise SpecError(
            "A graph with a Markov gate needs the rows of each series in the order of time, with "
            "times that increase."
        )
    return context.data(names.SERIES_OF_ROW, rows.sequences.code, dims=names.OBS)


def _with_staying(spec: MixtureOfExperts, logits: Any, rows: Rows) -> Any:
    """Logits of a gate, with what a Markov chain adds to those of staying; those (output, obs)."""
    chain = spec.structure.gate.chain
    if chain is None:
        return logits
    return logits + np.broadcast_to(chain.staying[:, None], (chain.outputs, rows.size))


def _with_features(spec: MixtureOfExperts, rows: Rows, logits: Any, parts: _Parts) -> Any:
    """Gate logits plus log densities of the features that the gate models, a model potential."""
    factors = [part for part in spec.structure.factors if part.column is not None]
    if not factors:
        return logits
    import pymc as pm

    xp = symbolic()
    joint = log_softmax(logits, xp)
    for part in factors:
        params = parts.of(part.block, part.own_response(parts.design.rows))
        data = parts.context.data(f"{part.block.name}_data", part.response(rows), dims=names.OBS)
        joint = joint + part.block.log_density(data, params, xp)
    density = xp.logsumexp(joint, axis=-2)
    counted = density if parts.weights is None else density * parts.weights
    pm.Potential(f"{names.GATE}_density", counted, dims=names.OBS)
    return joint
