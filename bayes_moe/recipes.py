"""Recipes: the usual models from a formula, as descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayes_moe import registry
from bayes_moe.errors import SpecError
from bayes_moe.experts import Expert
from bayes_moe.gates import Gate
from bayes_moe.priors import Prior
from bayes_moe.spec import MixtureOfExperts


def mixture_of_experts(
    formula: str,
    gate: str | Gate | None = None,
    experts: int = 2,
    family: str = "normal",
    priors: Mapping[str, Prior] | None = None,
    center: bool = True,
    **own: str | int,
) -> MixtureOfExperts:
    r"""Describe a softmax-gated mixture of experts of one kind.

    ``p(y | x) = sum_k softmax_k(z' alpha) f(y | x' beta_k, phi_k)``, with ``x`` the features of
    the experts' formula and ``z`` those of the gate's.

    Parameters
    ----------
    formula : str
        ``"response ~ features"`` of the experts, in formulaic's language: categoricals,
        interactions, ``bs(x, df=5)``, ``poly(x, 2)``, ``log(x)``; names with spaces in backticks,
        arithmetic inside ``I(...)``: ``I(x**2)``. The response is a column or a function of
        columns.
    gate : str or Gate, optional
        Features of the gate, e.g. ``"~ z"``. Left out, the gate uses the experts' features;
        ``"~ 1"`` makes it constant.
    experts : int
        Number of experts, at least 1. One expert is an ordinary regression.
    family : {"normal", "studentt", "poisson", "bernoulli", "binomial"}
        Response distribution of each expert.
    priors : mapping of str to Prior, optional
        By variable: ``"gate_coef"``, ``"mu_coef"``, ``"sigma"``, ``"sigma_coef"``, ``"nu"``,
        ``"p_coef"`` (Bernoulli and binomial), ...
    center : bool
        Whether intercept priors refer to the centre of the features (default) or to zero.
    **own : str or int
        Formulas of other family parameters on their link scale, e.g. ``sigma="~ x"``. A binomial
        family needs ``trials``: a column such as ``trials="n"``, or a number such as ``trials=4``.

    Returns
    -------
    MixtureOfExperts
        The description; give it to :func:`bayes_moe.fit` or :func:`bayes_moe.build`.

    Raises
    ------
    SpecError
        For unknown families, parameters or priors, formulas that cannot be read, and a binomial
        family without trials.

    References
    ----------
    Jacobs, R. A., Jordan, M. I., Nowlan, S. J., & Hinton, G. E. (1991). Adaptive mixtures of
    local experts. Neural Computation, 3(1), 79-87.

    Examples
    --------
    >>> import bayes_moe as bm
    >>> spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=2, sigma="~ stretchratio")
    >>> spec.n_experts
    2
    """
    if not isinstance(experts, int | np.integer) or isinstance(experts, bool) or experts < 1:
        raise SpecError(f"`experts` must be a whole number of at least 1; it is {experts!r}.")
    softmax: Any = registry.resolve("gate", "softmax")
    described = gate if isinstance(gate, Gate) else softmax(gate)
    return MixtureOfExperts(
        described, [Expert(formula, family, None, **own)] * int(experts), priors, center
    )
