"""PyMC models from descriptions and designs; the only ``pm.Model()`` of the package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import log_softmax, symbolic
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.core.graph_context import GraphContext
from bayes_moe.data.design import Design
from bayes_moe.graph.mixture_variable import LIKELIHOODS, observed_mixture
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
        Prior of every reported variable, defaults included.
    model : pymc.Model
        The model; its response is the observed variable ``y``.
    log_weights : TensorVariable
        Symbolic gate log weights (expert, obs).
    log_densities : TensorVariable
        Symbolic log density of the observed response under each expert (expert, obs).
    """

    spec: MixtureOfExperts
    design: Design
    priors: Mapping[str, Prior]
    model: Any
    log_weights: Any
    log_densities: Any

    def __repr__(self) -> str:
        return (
            f"Graph({self.design.rows.size} rows, {self.spec.structure.counted})\n{self.spec!r}\n"
            + "\n".join(f"{name} ~ {prior!r}" for name, prior in self.priors.items())
        )

    def free_values(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the model's free variables at reported ones (both on their natural scale)."""
        matrices, response = self.design.rows.matrices, self.design.response
        free: dict[str, np.ndarray] = {}
        spec = self.spec
        free |= spec.structure.gate.to_raw(matrices, response, self.priors, values)
        for part in spec.structure.factors:
            response = part.response(self.design.rows)
            for c in part.block.components:
                if c.formula is None:
                    free[c.stem] = np.asarray(values[c.stem])
                else:
                    free |= c.predictor.to_raw(c.site.bind(matrices[c.stem], response), values)
        return free

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
        description["priors"] = {name: prior.distribution for name, prior in self.priors.items()}
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

        inputs, outputs = [], []
        for rv in self.model.free_RVs:
            value = rv.type()
            transform = self.model.rvs_to_transforms[rv]
            inputs.append(value)
            outputs.append(
                value if transform is None else transform.forward(value, *rv.owner.inputs)
            )
        # Compiling to C would take longer than all calls, of which there is one a start.
        mode = Mode(linker="py", optimizer="fast_compile")
        return pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")


def build(
    spec: MixtureOfExperts, data: Any, *, missing: str = "raise", likelihood: str = "fused"
) -> Graph:
    """Build the generative model of a description on data.

    Parameters
    ----------
    spec : MixtureOfExperts
        The description.
    data : table or Design
        pandas, polars, a dict of arrays, or a design.
    missing : {"raise", "drop"}
        What to do with rows that have missing values.
    likelihood : {"fused", "symbolic"}
        ``"fused"`` computes the response's log density and its derivatives in one compiled pass
        over the rows, and has no second derivatives; ``"symbolic"`` is its formulas in PyTensor.

    Returns
    -------
    Graph
        ``.model`` is a plain :class:`pymc.Model` with named dims and coords, for any sampler and
        for PyMC's prior and posterior predictives.

    Raises
    ------
    DataError, SpecError
        See :meth:`bayes_moe.MixtureOfExperts.design`.
    """
    if likelihood not in LIKELIHOODS:
        raise SpecError(unknown("likelihood", likelihood, LIKELIHOODS))
    if missing == "model":
        raise SpecError(
            "A graph cannot integrate missing features out: build it with missing='drop', or fit "
            "with method='em'."
        )
    design = data if isinstance(data, Design) else spec.design(data, missing)
    return build_design(spec, design, likelihood)


def build_design(
    spec: MixtureOfExperts,
    design: Design,
    likelihood: str,
    *,
    replaceable: bool = False,
    batch_size: int | None = None,
) -> Graph:
    """Model of a design; with ``replaceable``, all its numbers are shared variables.

    With a ``batch_size`` its log likelihood is that of a random batch of rows, drawn at every
    evaluation, times rows over batch size: an unbiased estimate of that of all rows.
    """
    import pymc as pm

    priors = spec.resolve_priors(design)
    matrices, response = design.rows.matrices, design.response
    with pm.Model(coords=spec.structure.coords(design)) as model:
        observed = pm.Data(f"{names.RESPONSE}_data", response, dims=names.OBS)
        total, chosen = None, None
        if batch_size is not None:
            total, rows = len(response), np.arange(len(response))
            observed, chosen = pm.Minibatch(observed, rows, batch_size=batch_size)
        context = GraphContext(replaceable, chosen)
        logits = spec.structure.gate.build(matrices, response, priors, context)
        logits = _with_features(spec, design, logits, priors, context)
        params = [
            block.build(matrices, response, priors, context) for block in spec.structure.blocks
        ]
        observed_mixture(spec.structure.blocks, logits, params, observed, likelihood, total)
    log_densities = log_components(observed, spec.structure.blocks, params, symbolic())
    return Graph(spec, design, priors, model, log_softmax(logits, symbolic()), log_densities)


def _with_features(
    spec: MixtureOfExperts,
    design: Design,
    logits: Any,
    priors: Mapping[str, Prior],
    context: GraphContext,
) -> Any:
    """Gate logits plus log densities of the features that the gate models, a model potential."""
    factors = [part for part in spec.structure.factors if part.column is not None]
    if not factors:
        return logits
    import pymc as pm

    xp = symbolic()
    joint = log_softmax(logits, xp)
    for part in factors:
        x = part.response(design.rows)
        params = part.block.build(design.rows.matrices, x, priors, context)
        data = context.data(f"{part.block.name}_data", x, dims=names.OBS)
        joint = joint + part.block.family.log_density(data, params, xp)
    pm.Potential(f"{names.GATE}_density", xp.logsumexp(joint, axis=-2), dims=names.OBS)
    return joint
