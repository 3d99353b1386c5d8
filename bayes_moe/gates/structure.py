"""A gate for a number of experts: its heads, splits and symmetry, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays, Values
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.errors import SpecError
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.core.samples import Sample
from bayes_moe.data.matrix import Matrix
from bayes_moe.gates.feature_model import FeatureModel
from bayes_moe.gates.splits import SplitTree
from bayes_moe.gates.transitions import Transitions
from bayes_moe.predictors import Predictor, Site
from bayes_moe.predictors.base import Target
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class Head:
    """One predictor of a gate, with one or more outputs.

    Attributes
    ----------
    stem : str
        Its formula's name.
    predictor : Predictor
        Features -> outputs.
    dim : str
        Dimension over the outputs of its coefficients.
    labels : tuple or None
        Along that dimension; None for the dimension over experts.
    outputs : slice
        Its outputs among those of all the gate's predictors.
    basis : array (direction, output) or None
        With a zero-sum prior, the coefficients are ``basis.T @ directions``; None where PyMC's own
        zero-sum variable serves. Rows of the basis are orthogonal.
    spread : array (output,) or None
        With other priors, a factor of each output.
    directions : tuple of str
        Labels of the directions.
    zero_sum : bool
        Whether only differences between outputs count, so that a prior may be zero-sum.
    default_prior : callable or None
        From the matrix of its features to the default prior of its coefficients, where that is not
        the predictor's.
    invariances : callable or None
        From the matrix of its features to the number of directions of the sampler's variables along
        which the density does not change, if there are any.
    """

    stem: str
    predictor: Predictor
    dim: str
    labels: tuple[Any, ...] | None
    outputs: slice
    basis: np.ndarray | None = None
    spread: np.ndarray | None = None
    directions: tuple[str, ...] = ()
    zero_sum: bool = True
    default_prior: Callable[[Matrix], Prior] | None = None
    invariances: Callable[[Matrix], int] | None = None

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.outputs.stop - self.outputs.start)

    @property
    def site(self) -> Site:
        """Site of its predictor."""
        return Site(self.stem, names.GATE, self.dim, self.n_outputs)

    def site_under(self, prior: Prior) -> tuple[Site, Prior]:
        """Site of its predictor under a prior, and the prior of the internal coefficients."""
        mixing, dim, inner = self.mixing(prior)
        return replace(self.site, mixing=mixing, raw_dim=dim), inner

    def mixing(self, prior: Prior) -> tuple[np.ndarray | None, str, Prior]:
        """Matrix (internal, output) or None, the internal dimension, and the internal prior."""
        if prior.kind.support == "zero-sum" and self.basis is not None:
            return self.basis, names.split(self.stem), Prior("Normal", **prior.arguments)
        spread = None if self.spread is None else np.diag(self.spread)
        return spread, self.dim, prior


@dataclass(frozen=True, eq=False)
class GateStructure:
    """A gate for a number of experts; made once by :meth:`Gate.structure`.

    Attributes
    ----------
    n_experts : int
        Number of experts. A gate of one expert has no heads.
    heads : tuple of Head
        Predictors, in the order of their outputs.
    splits : SplitTree or None
        The gate as a product of softmaxes, if it is one: what EM and the compiled density read.
    exchange_tree
        Which experts are exchangeable: an expert's position, or ``(stem, children)``, whose
        children are exchangeable where they are alike; None where no two experts are.
    weigh : callable or None
        From outputs of the predictors (..., output, obs) to log weights (..., expert, obs), for a
        gate that is no product of softmaxes.
    temperature : float
        Divides the outputs before they become weights.
    features : FeatureModel or None
        Density of the gate's features, if it is a factor of the joint density with the response.
        The weights from the heads are then those before the features are known.
    surrogate : Gate or None
        The gate with linear predictors on the same features, from which starting values of
        nonlinear gates come; None where the gate itself serves.
    coarser : tuple
        Gates of fewer experts from which deep gates grow, the smallest first, each with the
        positions of this gate's experts that come from each of its own.
    chain : Transitions or None
        How outputs become transitions of a Markov chain of experts, whose weights depend on the
        rows before. It then has no splits.
    """

    n_experts: int
    heads: tuple[Head, ...]
    splits: SplitTree | None
    exchange_tree: Any
    weigh: Callable[[Any, Arrays], Any] | None = None
    temperature: float = 1.0
    features: FeatureModel | None = None
    surrogate: Any = None
    coarser: tuple[tuple[Any, tuple[tuple[int, ...], ...]], ...] = ()
    chain: Transitions | None = None

    @property
    def gain(self) -> float:
        """Factor of the outputs before they become weights."""
        return 1.0 / self.temperature

    # --- names and shapes ---------------------------------------------------------------------

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of the reported variables by name."""
        return {n: d for h in self.heads for n, d in h.predictor.variables(h.site).dims.items()}

    def shapes(self, matrices: Mapping[str, Matrix]) -> dict[str, tuple[int, ...]]:
        """Shapes of the reported variables by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for h in self.heads:
            shapes |= h.predictor.shapes(h.site.bind(matrices[h.stem]))
        return shapes

    @property
    def supports(self) -> dict[str, set[str]]:
        """Supports that a prior of each reported variable may have."""
        supports: dict[str, set[str]] = {}
        for h in self.heads:
            variables = h.predictor.variables(h.site)
            supports |= {v.name: {variables.supports.get(v.name, "real")} for v in variables}
            supports[h.site.coef] |= {"zero-sum"} if h.zero_sum else set()
        return supports

    def coords(self, matrices: Mapping[str, Matrix] | None = None) -> dict[str, list[Any]]:
        """Labels along the gate's dimensions; those of its predictors too, given matrices."""
        labels: dict[str, list[Any]] = {}
        for h in self.heads:
            if matrices is not None:
                labels |= h.predictor.coords(h.site.bind(matrices[h.stem]))
            if h.labels is not None:
                labels[h.dim] = list(h.labels)
            if h.directions:
                labels[names.split(h.stem)] = list(h.directions)
        return labels

    def n_parameters(self, matrices: Mapping[str, Matrix]) -> int:
        """Number of parameters of the likelihood; of a softmax only differences count."""
        total, shared = 0, frozenset[str]()
        for h in self.heads:
            redundant = int(h.zero_sum)
            if self.splits is not None:
                splits = [s for s in self.splits.splits if s.stem == h.stem]
                redundant = len([s for s in splits if not s.pinned])
            if self.chain is not None:
                redundant = self.n_experts
            total += h.predictor.free(h.site.bind(matrices[h.stem]), redundant)
            variables = h.predictor.variables(h.site)
            shared |= variables.shared & variables.basis
        shapes = self.shapes(matrices)
        return total + sum(int(np.prod(shapes[name])) for name in shared)

    def n_invariant_directions(self, matrices: Mapping[str, Matrix]) -> int:
        """Most directions of the sampler's variables along which the density does not change."""
        return sum(h.invariances(matrices[h.stem]) for h in self.heads if h.invariances is not None)

    def permutation_index(self, orders: np.ndarray) -> dict[str, np.ndarray]:
        """Index (sample, output) along the gate's own dimensions under orders of the experts.

        Expert ``orders[sample, k]`` becomes expert ``k``.
        """
        arrangement = self.splits or self.chain
        if arrangement is None:
            return {}
        outputs = arrangement.permutation_index(orders)
        return {
            h.dim: outputs[:, h.outputs] - h.outputs.start
            for h in self.heads
            if h.labels is not None
        }

    # --- priors and variables -----------------------------------------------------------------

    def default_priors(self, matrices: Mapping[str, Matrix], response: Sample) -> dict[str, Prior]:
        """Data-scaled default prior of every reported variable, by name."""
        priors = {}
        for h in self.heads:
            b = h.site.bind(matrices[h.stem], response)
            priors[h.site.coef] = h.predictor.default_prior(b)
            priors |= h.predictor.variables(h.site).priors(b)
            if h.default_prior is not None:
                priors[h.site.coef] = h.default_prior(matrices[h.stem])
        return priors

    def build(
        self,
        matrices: Mapping[str, Matrix],
        response: Sample,
        priors: Mapping[str, Prior],
        context: GraphContext = CONSTANTS,
    ) -> Any:
        """Create the random variables in the current model; return logits (expert, obs).

        Logits are log weights up to a summand of the row. Of a Markov chain they are its outputs
        (output, obs).
        """
        import pytensor.tensor as pt

        xp = symbolic_arrays()
        if not self.heads:
            return pt.zeros((1, 1))
        etas = []
        for h in self.heads:
            site, prior = h.site_under(priors[h.site.coef])
            b = site.bind(matrices[h.stem], response)
            etas.append(b.built(h.predictor.build(b, prior, priors, context), context))
        eta = etas[0] if len(etas) == 1 else xp.concatenate(etas, axis=-2)
        eta = self.gain * eta if self.gain != 1.0 else eta
        plain_softmax = self.splits is not None and self.splits.is_single_softmax
        if self.chain is not None:
            return eta
        # The mixture normalises logits anyway; densities of features need log weights.
        return eta if plain_softmax and self.features is None else self.log_weights(eta, xp)

    def evaluate(self, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
        """Log weights (sample, expert, obs) of posterior draws on rows of a table."""
        if not self.heads:
            samples = len(next(iter(draws.values())))
            rows = len(next(iter(matrices.values())).values)
            return np.zeros((samples, 1, rows))
        if self.features is None:
            weights: np.ndarray = self.log_weights(self.eta(draws, matrices), NUMERIC)
            return weights
        joint = self.features.log_joint(draws, matrices)
        return joint - NUMERIC.logsumexp(joint, axis=-2, keepdims=True)

    def eta(self, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
        """Outputs of the predictors (sample, output, obs) of posterior draws on rows."""
        bound = [(h.predictor, h.site.bind(matrices[h.stem])) for h in self.heads]
        etas = [b.evaluated(predictor, draws) for predictor, b in bound]
        eta = etas[0] if len(etas) == 1 else np.concatenate(etas, axis=-2)
        return self.gain * eta if self.gain != 1.0 else eta

    def log_weights(self, eta: Any, xp: Arrays) -> Any:
        """Log weights (..., expert, obs) from outputs of the predictors (..., output, obs)."""
        if self.splits is not None:
            return self.splits.log_weights(eta, xp)
        if self.chain is not None:
            return self.chain.log_weights(eta, xp)
        if self.weigh is None:
            raise SpecError("A gate needs splits or a function from outputs to log weights.")
        return self.weigh(eta, xp)

    def to_raw(
        self,
        matrices: Mapping[str, Matrix],
        response: Sample,
        priors: Mapping[str, Prior],
        values: Values,
    ) -> dict[str, np.ndarray]:
        """The sampler's variables from the reported ones, by name."""
        raw: dict[str, np.ndarray] = {}
        for h in self.heads:
            site = h.site_under(priors[h.site.coef])[0]
            raw |= h.predictor.to_raw(site.bind(matrices[h.stem], response), values)
        return raw

    def initialise(
        self,
        logits: np.ndarray,
        matrices: Mapping[str, Matrix],
        response: Sample,
        rng: np.random.Generator,
        ridge: float,
    ) -> dict[str, np.ndarray]:
        """Reported variables whose log weights approximate given ones (expert, obs).

        Logits may lack a summand of the row; see :meth:`Predictor.project`.
        """
        values: dict[str, np.ndarray] = {}
        arrangement = self.splits or self.chain
        targets = logits if arrangement is None else arrangement.outputs_of(logits)
        targets = targets / self.gain
        for h in self.heads:
            b = h.site.bind(matrices[h.stem], response)
            target = Target(b.unshifted(targets[h.outputs]), rng, ridge, known=values)
            values |= h.predictor.project(b, target)
        return values
