"""How data enter a PyMC graph, and which variables of it are free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bayes_moe.core.dim_pairs import NO_PAIRS, DimPairs
from bayes_moe.core.errors import SpecError

NO_PRIOR = (
    "This graph was built from a fit, bm.build(fit, rows): its variables stand for the fit's draws "
    "and have no prior. Use bm.build(spec, table) to sample, and give {name!r} in the posterior of "
    "the tree."
)


@dataclass(frozen=True, eq=False)
class GraphContext:
    """How numbers and data of the current PyMC model are stored, and its free variables.

    Attributes
    ----------
    replaceable : bool
        Whether numbers that depend on the data are shared variables, so that a compiled function
        serves many data sets. Otherwise they are constants: PyMC takes shared variables for data
        that the user may have changed.
    batch : tensor variable or None
        Positions of the rows of the present minibatch, a random variable; None for all rows.
    reported : frozenset of str
        Stems of the predictors whose reported coefficients are free variables, which do not depend
        on the rows of the table; those of others are functions of internal ones.
    given : bool
        Whether all reported variables are free ones without a prior, for the draws of a fit.
    mark : shared variable or None
        A zero that is added to the arguments of priors, so that PyMC compares it with the fit's
        data where it combines the graph with draws of a fit.
    made : mapping of str to tensor variable
        Constants and internal coefficients of the model that exist already, by name: those with
        shared or held entries.
    pairs : DimPairs
        The two dimensions that reported variables have in a graph for users; none in others.
    """

    replaceable: bool = False
    batch: Any = None
    reported: frozenset[str] = frozenset()
    given: bool = False
    mark: Any = None
    made: Mapping[str, Any] = field(default_factory=dict)
    pairs: DimPairs = NO_PAIRS

    @property
    def without_pairs(self) -> GraphContext:
        """The context in which variables have their internal dimensions."""
        return replace(self, pairs=NO_PAIRS)

    def number(self, name: str, value: Any) -> Any:
        """Return numbers that depend on the data: an array, or a shared variable of that name."""
        array = np.asarray(value, dtype=float)
        if not self.replaceable:
            return array if self.mark is None else array + self.mark
        import pytensor

        return pytensor.shared(array, name=name, shape=array.shape)

    def data(self, name: str, values: Any, dims: Any = None) -> Any:
        """Return ``pm.Data(name, values, dims=dims)``, or its rows in the present minibatch.

        The first axis of ``values`` is over the rows of the table.
        """
        import pymc as pm

        data = pm.Data(name, values, dims=dims)
        return data if self.batch is None else data[self.batch]

    def report(self, name: str, value: Any, dims: tuple[str, ...]) -> Any:
        """Add a reported variable that is a function of others, and return its value (dims)."""
        import pymc as pm

        shown = pm.Deterministic(name, self.pairs.reported(value, dims), dims=self.pairs.dims(dims))
        return self.pairs.internal(shown, dims)

    def given_variable(self, name: str, dims: tuple[str, ...]) -> Any:
        """Add a reported variable without a prior, and return its value (dims).

        Its density and draws raise :class:`SpecError`: its values come from the draws of a fit.
        """
        return self.pairs.internal(_given(name, self.pairs.dims(dims)), dims)


def _given(name: str, dims: tuple[str, ...]) -> Any:
    """Free variable of the current PyMC model without a prior."""
    import pymc as pm
    import pytensor.tensor as pt
    from pytensor.raise_op import CheckAndRaise

    message = NO_PRIOR.format(name=name)

    def draw(*args: Any, **settings: Any) -> Any:
        raise SpecError(message)

    def log_density(value: Any) -> Any:
        # PyMC asks for the term even where only the response's is evaluated.
        never = pt.lt(pt.sum(value * value), 0.0)
        return CheckAndRaise(SpecError, message)(pt.zeros_like(value), never)

    return pm.CustomDist(name, random=draw, logp=log_density, class_name="Given", dims=dims)


CONSTANTS = GraphContext()
"""Numbers are constants, and data are those of all rows."""
