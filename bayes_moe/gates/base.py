"""What every gate can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Matrix
from bayes_moe.gates.splits import SplitTree
from bayes_moe.gates.structure import FeatureDensity, Head
from bayes_moe.priors.prior import Prior

Values = Mapping[str, np.ndarray]


class Gate(ABC):
    """Features of a row -> log weights (expert, obs) whose exponentials sum to one.

    Rows of predictors come from the gate's :meth:`heads`; :meth:`log_weights` takes them to log
    weights.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def formulas(self) -> Mapping[str, str | None]:
        """Formulas by stem; None stands for the experts' right-hand side."""

    @abstractmethod
    def heads(self, experts: int) -> tuple[Head, ...]:
        """Predictors in the order of their rows; none for one expert."""

    @abstractmethod
    def log_weights(self, experts: int, eta: Any, xp: Arrays) -> Any:
        """Log weights (..., expert, obs) from rows of predictors (..., row, obs)."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; its ``kind`` is the name in the registry."""

    def branching(self, experts: int) -> SplitTree | None:
        """The gate as splits of softmaxes, if it is one: what EM and the compiled density read."""
        return None

    @property
    def gain(self) -> float:
        """Factor of the rows of predictors, before they become weights."""
        return 1.0

    @property
    def feature_densities(self) -> tuple[FeatureDensity, ...]:
        """Features that the gate models, if it is a part of their joint density with the response.

        The gate's own weights are then those before the features are seen.
        """
        return ()

    def log_features(
        self, experts: int, draws: Values, matrices: Mapping[str, Matrix]
    ) -> np.ndarray | float:
        """Log density (sample, obs) of the features that the gate models; 0 if it models none."""
        return 0.0

    def derived(self, experts: int, draws: Values) -> dict[str, np.ndarray]:
        """Quantities (sample, ...) that a reader wants, from reported variables."""
        return {}

    def derived_dims(self, experts: int) -> dict[str, tuple[str, ...]]:
        """Dimensions of :meth:`derived`."""
        return {}

    def derived_coords(self) -> dict[str, list[Any]]:
        """Labels along the dimensions of :meth:`derived` that no variable has."""
        return {}

    def check(self, experts: int) -> None:
        """Raise :class:`SpecError` if the gate cannot serve so many experts."""
        if experts < 1:
            raise SpecError(f"A gate serves at least one expert; there are {experts}.")

    def shallower(self, experts: int) -> list[tuple[Gate, tuple[tuple[int, ...], ...]]]:
        """Gates from which this one grows, the smallest first.

        Besides, this gate's experts that come out of each of theirs.
        """
        return []

    def reordered(self, order: tuple[int, ...]) -> Gate:
        """Return the gate for experts that are put into an order: ``order[k]`` comes to ``k``."""
        return self

    def logits(self, experts: int, eta: Any, xp: Arrays) -> Any:
        """Log weights up to a summand of the row."""
        return self.log_weights(experts, eta, xp)

    def default_priors(
        self, experts: int, matrices: Mapping[str, Matrix], response: np.ndarray
    ) -> dict[str, Prior]:
        """Return the data-scaled default prior of every variable."""
        found = {}
        for h in self.heads(experts):
            given = (h.place, matrices[h.stem], response)
            found[h.place.coef] = h.predictor.default_prior(*given)
            found |= h.predictor.hyperparameter_priors(*given)
        return found

    def dims(self, experts: int) -> dict[str, tuple[str, ...]]:
        """Dimensions of reported variables."""
        heads = self.heads(experts)
        return {n: d for h in heads for n, d in h.predictor.dims(h.place).items()}

    def shapes(self, experts: int, matrices: Mapping[str, Matrix]) -> dict[str, tuple[int, ...]]:
        """Shapes of the reported variables."""
        found: dict[str, tuple[int, ...]] = {}
        for h in self.heads(experts):
            found |= h.predictor.shapes(h.place, matrices[h.stem])
        return found

    def supports(self, experts: int) -> dict[str, set[str]]:
        """Supports that a prior of each reported variable may have."""
        found = {}
        for h in self.heads(experts):
            positive = h.predictor.positive(h.place)
            for name in h.predictor.variables(h.place):
                found[name] = {"positive"} if name in positive else {"real"}
            found[h.place.coef] |= {"zero-sum"} if h.zero_sum else set()
        return found

    def coords(
        self, experts: int, matrices: Mapping[str, Matrix] | None = None
    ) -> dict[str, list[Any]]:
        """Labels along the gate's own dimensions; those of its predictors too, given matrices."""
        found: dict[str, list[Any]] = {}
        for h in self.heads(experts):
            if matrices is not None:
                found |= h.predictor.coords(h.place, matrices[h.stem])
            if h.labels is not None:
                found[h.dim] = list(h.labels)
            if h.directions:
                found[names.split(h.stem)] = list(h.directions)
        return found

    def build(
        self,
        experts: int,
        matrices: Mapping[str, Matrix],
        response: np.ndarray,
        priors: Mapping[str, Prior],
    ) -> Any:
        """Create the random variables in the current model; return logits (expert, obs).

        Logits are log weights up to a summand of the row.
        """
        xp = symbolic_arrays()
        if experts == 1:
            import pytensor.tensor as pt

            return pt.zeros((1, 1))
        etas = []
        for h in self.heads(experts):
            place, prior = h.placed(priors[h.place.coef])
            etas.append(h.predictor.build(place, matrices[h.stem], response, prior, priors))
        rows = etas[0] if len(etas) == 1 else xp.concatenate(etas, axis=-2)
        return self.logits(experts, self.gain * rows if self.gain != 1.0 else rows, xp)

    def evaluate(self, experts: int, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
        """Return log weights (sample, expert, obs) of posterior draws on rows."""
        if experts == 1:
            samples = len(next(iter(draws.values())))
            rows = len(next(iter(matrices.values())).values)
            return np.zeros((samples, 1, rows))
        return self.log_weights(experts, self.eta(experts, draws, matrices), NUMERIC)

    def eta(self, experts: int, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
        """Rows of predictors (sample, row, obs) of posterior draws on rows of a table."""
        etas = [h.predictor.evaluate(h.place, draws, matrices[h.stem]) for h in self.heads(experts)]
        rows = etas[0] if len(etas) == 1 else np.concatenate(etas, axis=-2)
        return self.gain * rows if self.gain != 1.0 else rows

    def to_raw(
        self,
        experts: int,
        matrices: Mapping[str, Matrix],
        response: np.ndarray,
        priors: Mapping[str, Prior],
        values: Values,
    ) -> dict[str, np.ndarray]:
        """Return the sampler's variables from the reported ones."""
        found: dict[str, np.ndarray] = {}
        for h in self.heads(experts):
            place = h.placed(priors[h.place.coef])[0]
            found |= h.predictor.to_raw(place, matrices[h.stem], response, values)
        return found

    def linear(self) -> Gate:
        """Return a gate with linear predictors on the same features, from which climbs begin."""
        return self

    def from_rows(
        self,
        experts: int,
        logits: np.ndarray,
        matrices: Mapping[str, Matrix],
        response: np.ndarray,
        rng: np.random.Generator,
        ridge: float,
    ) -> dict[str, np.ndarray]:
        """Return reported variables whose log weights come near given ones (expert, obs).

        Logits may miss a summand of the row; see :meth:`Predictor.project`.
        """
        found: dict[str, np.ndarray] = {}
        rows = self.rows_of(experts, logits) / self.gain
        for h in self.heads(experts):
            given = (h.place, matrices[h.stem], response, rows[h.places], rng)
            found |= h.predictor.project(*given, ridge=ridge, known=found)
        return found

    def rows_of(self, experts: int, logits: np.ndarray) -> np.ndarray:
        """Rows of predictors (row, obs) that give some log weights (expert, obs)."""
        branching = self.branching(experts)
        if branching is None:
            return logits
        rows = []
        for split in branching.splits:
            below = [NUMERIC.logsumexp(logits[list(leaves)], axis=0) for leaves in split.leaves]
            own = np.array(below)
            rows.append(own[:-1] - own[-1] if split.pinned else own - own.mean(axis=0))
        order = np.argsort([split.rows.start for split in branching.splits])
        return np.concatenate([rows[j] for j in order])

    def flat(self, experts: int, matrices: Mapping[str, Matrix]) -> int:
        """Most directions of the sampler's variables along which the density does not change."""
        return 0

    def free(self, experts: int, matrices: Mapping[str, Matrix]) -> int:
        """Number of parameters of the likelihood; of a softmax only differences count."""
        branching = self.branching(experts) if experts > 1 else None
        total, seen = 0, frozenset[str]()
        for h in self.heads(experts):
            idle = int(h.zero_sum)
            if branching is not None:
                own = [s for s in branching.splits if s.stem == h.stem]
                idle = len([s for s in own if not s.pinned])
            matrix = matrices[h.stem]
            total += h.predictor.free(h.place, matrix, idle)
            seen |= h.predictor.shared_variables(h.place) & h.predictor.basis_parameters(h.place)
        shapes = self.shapes(experts, matrices)
        return total + sum(int(np.prod(shapes[name])) for name in seen)

    def permutation_index(self, experts: int, orders: np.ndarray) -> dict[str, np.ndarray]:
        """Index (sample, row) of what comes into each place along the gate's own dimensions."""
        branching = self.branching(experts) if experts > 1 else None
        if branching is None:
            return {}
        rows = branching.permutation_index(orders)
        return {
            h.dim: rows[:, h.places] - h.places.start
            for h in self.heads(experts)
            if h.labels is not None
        }

    def exchange_tree(self, experts: int) -> Any:
        """Which experts may trade places: nested tuples of positions, ``(stem, children)``.

        A number is an expert; a tuple a stem and children, those of which that are alike trade
        places. None means that no two may.
        """
        return (names.GATE, tuple(range(experts)))
