"""Recipes: the usual models from a formula, as descriptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bayes_moe import families
from bayes_moe.core import registry
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError, closest, unknown
from bayes_moe.data.formulas import split_formula, without_offsets
from bayes_moe.families import Family, quoted
from bayes_moe.gates import Gate, Softmax, Tree
from bayes_moe.gates.tree import SHRINK, leaf_labels
from bayes_moe.model.constraints import WEIGHTS
from bayes_moe.model.expert import Expert, families_with, free_parameters
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import MLP
from bayes_moe.priors.prior import Prior

TRUNK = "trunk"
"""Name of a mixture density network's hidden layers."""


def mixture_of_experts(
    formula: str,
    gate: str | Gate | None = None,
    experts: int | None = None,
    family: str | Family = "normal",
    predictor: Any = None,
    priors: Mapping[str, Prior] | None = None,
    center: bool = True,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    levels: Sequence[Any] | None = None,
    shared: Sequence[str] = (),
    fixed: Mapping[str, Any] | None = None,
    exposure: str | None = None,
    weights: str | None = None,
    group: str | None = None,
    expert: str | None = None,
    time: str | None = None,
    series: str | None = None,
    **parameters: str | int,
) -> MixtureOfExperts:
    r"""Describe a mixture of experts of one kind.

    ``p(y | x) = sum_k w_k(z) f(y | x' beta_k, phi_k)``, with ``x`` the features of the experts'
    formula and ``z`` those of the gate's; the default gate is ``w = softmax(z' alpha)``.

    Parameters
    ----------
    formula : str
        ``"response ~ features"`` of the experts: categoricals, interactions, ``bs(x, df=5)``,
        ``poly(x, 2)``, ``log(x)``; names with spaces in backticks, arithmetic inside ``I(...)``:
        ``I(x**2)``. The response is a column or a function of columns. :doc:`/formulas` lists the
        functions.
    gate : str or Gate, optional
        Features of a softmax gate, e.g. ``"~ z"``, or a gate of another kind, such as
        ``bm.gates.StickBreaking("~ z")``. Left out, the gate uses the experts' features, or none
        with ``group``; ``"~ 1"`` makes it constant.
    experts : int, optional
        Number of experts, at least 1: by default 2, or as many as a tree gate has leaves. One
        expert is an ordinary regression.
    family : str or Family
        Response distribution of each expert: a name such as ``"normal"`` or ``"categorical"``, or
        a family with settings, such as ``bm.families.Bernoulli(link="probit")``. :doc:`/families`
        lists all.
    predictor : Predictor, str or mapping, optional
        What makes the experts' predictors of features: see :class:`bayes_moe.Expert`. A gate has
        its own: ``gate=bm.gates.Softmax("~ x", predictor="spline")``.
    priors : mapping of str to Prior, optional
        By variable: ``"gate_coef"``, ``"mu_coef"``, ``"sigma"``, ``"sigma_coef"``, ``"nu"``,
        ``"p_coef"`` (Bernoulli and binomial), ...; of a part of an expert's variable:
        ``"sigma[1]"`` of one expert, ``"mu_coef[x]"`` of one term, ``"mu_coef[1, x]"``. The label
        of a class or threshold comes first, ``"gap[fair, 1]"``.
    center : bool
        Whether intercept priors refer to the centre of the features (default) or to zero.
    functions : mapping of str to callable, optional
        Your own functions that formulas call, by name: ``{"hinge": f}`` for ``hinge(x)``. They are
        not saved: loading asks for them again. See :class:`MixtureOfExperts`.
    levels : sequence, optional
        Labels of the classes of a response of classes, in their order; of two classes the second is
        the one with probability ``p``. By default those of the table: :doc:`/classes`.
    shared : sequence of str
        What all experts have in common: a constant, ``"sigma"``, all coefficients, ``"mu_coef"``,
        or those of a term, ``"mu_coef[x]"``. It has one prior, and is reported for each expert.
    fixed : mapping of str to float or array, optional
        What is held at a value: ``{"nu": 4}``; one number an expert, ``{"sigma": (0.1, 1.0)}``, or
        of one expert, ``{"sigma[1]": 0.1}``; coefficients of a term, ``{"mu_coef[x]": 0.0}``, of an
        expert, ``{"mu_coef[1, x]": 0.0}``, or all, an array (expert, term). ``{"weights": (0.3,
        0.7)}`` are the weights of a gate without features, which then is the default. What is held
        has no prior. :doc:`/constraints` has examples.
    exposure : str, optional
        Column or expression that means are proportional to, such as time or people at risk, of a
        family on a log scale: see :class:`bayes_moe.Expert` and :doc:`/offsets`.
    weights : str, optional
        Column of row weights, or an expression: a row of weight 3 counts as three rows, one of
        weight 0 as none. :doc:`/rows` says what that means for survey weights.
    group : str, optional
        Column of groups of rows that have one expert: all rows of a person, of a panel, of a growth
        curve. The gate speaks once for a group, so its features are constant within each; left
        out, it has none.
    expert : str, optional
        Column with the label of a row's expert where it is known, missing elsewhere.
    time : str, optional
        Column of dates or numbers in whose order rows follow one another: what gates and predictors
        with memory, lags and forecasts need.
    series : str, optional
        Column that says of which series a row is, where the table has several.
    **parameters : str or int
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
    _check_arguments(mixture_of_experts, family, parameters)
    if isinstance(gate, type):
        raise SpecError(f"Give a gate, not its class: {gate.__name__}(...), with its formula.")
    if experts is None:
        experts = getattr(gate, "n_leaves", 2)  # only a tree fixes the number of experts
    check_whole("experts", experts, 1)
    gate = _without_features(gate, fixed, group)
    softmax: Any = registry.resolve("gate", "softmax")
    described = gate if isinstance(gate, Gate) else softmax(gate)
    return MixtureOfExperts(
        described,
        [Expert(formula, family, None, predictor, levels, exposure, **parameters)] * int(experts),
        priors,
        center,
        functions,
        shared,
        fixed,
        weights,
        group,
        expert,
        time,
        series,
    )


def hierarchical_mixture(
    formula: str,
    gate: str | Mapping[str, str] | None = None,
    branching: Sequence[int] | None = None,
    tree: Any = None,
    family: str | Family = "normal",
    predictor: Any = None,
    shrink: float = SHRINK,
    priors: Mapping[str, Prior] | None = None,
    center: bool = True,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    levels: Sequence[Any] | None = None,
    shared: Sequence[str] = (),
    fixed: Mapping[str, Any] | None = None,
    exposure: str | None = None,
    weights: str | None = None,
    group: str | None = None,
    expert: str | None = None,
    time: str | None = None,
    series: str | None = None,
    **parameters: str | int,
) -> MixtureOfExperts:
    r"""Describe a hierarchical mixture of experts: a softmax at every split of a tree.

    ``p(y | x) = sum_k prod_v g_vc(x) f(y | x' beta_k, phi_k)``, the product over the splits ``v``
    on the path to leaf ``k`` and its branches ``c`` there, ``g_v = softmax(z' alpha_v)``.

    Parameters
    ----------
    formula : str
        ``"response ~ features"`` of the experts at the leaves.
    gate : str or mapping of str to str, optional
        Features of every split, e.g. ``"~ z"``, or of splits by name: ``{"root": "~ x", "0.1":
        "~ z"}``. A split is named by the branches that lead to it; those left out use the experts'
        features. With ``group`` and no ``gate``, splits have no features.
    branching : sequence of int, optional
        Branches at each level of a balanced tree; ``(2, 2)`` if there is no ``tree``.
    tree : nested sequence, optional
        The tree instead, such as ``[["a", "b"], "c"]``: a sequence is a split, a name or a position
        an expert.
    family : str or Family
        Response distribution of each expert: a name such as ``"normal"`` or ``"categorical"``, or
        a family with settings, such as ``bm.families.Bernoulli(link="probit")``. :doc:`/families`
        lists all.
    predictor : Predictor, str or mapping, optional
        What makes the experts' predictors of features: see :class:`bayes_moe.Expert`.
    shrink : float
        Standard deviation of a split's prior over that of the split above it, at most 1.
    priors, center, functions, levels, shared, fixed, exposure, weights, group, expert, time,
    series, **parameters
        As in :func:`mixture_of_experts`.

    Returns
    -------
    MixtureOfExperts
        The description. The posterior has ``gate_coef (gate_branch, gate_term)``, where a split's
        rows sum to zero, and the experts' variables by leaf.

    Raises
    ------
    SpecError
        As :func:`mixture_of_experts`, and for trees that cannot be.

    References
    ----------
    Jordan, M. I., & Jacobs, R. A. (1994). Hierarchical mixtures of experts and the EM algorithm.
    Neural Computation, 6(2), 181-214.

    Examples
    --------
    >>> import bayes_moe as bm
    >>> spec = bm.hierarchical_mixture("accel ~ times", tree=[["rest", "fall"], "rise"])
    >>> spec.expert_labels
    ['rest', 'fall', 'rise']
    """
    if "experts" in parameters:
        raise SpecError(
            "A tree says by itself how many experts there are: give branching=(2, 2) or "
            "tree=[['a', 'b'], 'c'] instead of `experts`."
        )
    _check_arguments(hierarchical_mixture, family, parameters)
    if tree is None and branching is None:
        branching = (2, 2)
    gate = _without_features(gate, fixed, group)
    _check_tree_formulas(gate)
    by_split = {"formulas": gate} if isinstance(gate, Mapping) else {"formula": gate}
    described = Tree(tree, branching=branching, shrink=shrink, **by_split)
    leaves = [] if tree is None else leaf_labels(tree)
    named = leaves if leaves and isinstance(leaves[0], str) else [None] * described.n_leaves
    experts = [
        Expert(formula, family, name, predictor, levels, exposure, **parameters) for name in named
    ]
    rows = (weights, group, expert, time, series)
    given = (priors, center, functions, shared, fixed, *rows)
    return MixtureOfExperts(described, experts, *given)


def mixture_density(
    formula: str,
    components: int = 5,
    hidden: Sequence[int] = (16, 16),
    family: str | Family = "normal",
    activation: str = "tanh",
    priors: Mapping[str, Prior] | None = None,
    center: bool = True,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    levels: Sequence[Any] | None = None,
    exposure: str | None = None,
    weights: str | None = None,
    group: str | None = None,
    expert: str | None = None,
    time: str | None = None,
    series: str | None = None,
    **parameters: str | int,
) -> MixtureOfExperts:
    r"""Describe a mixture density network: one network whose heads are a mixture's parameters.

    ``p(y | x) = sum_k w_k(x) f(y | mu_k(x), sigma_k(x))``, with ``w = softmax(A h(x))``,
    ``mu_k(x)`` and ``log sigma_k(x)`` linear in the units ``h(x)`` of the last hidden layer, which
    all heads share.

    Parameters
    ----------
    formula : str
        ``"response ~ features"`` of the network.
    components : int
        Number of components of the mixture.
    hidden : sequence of int
        Units of each hidden layer, the trunk ``trunk_hidden0``, ``trunk_hidden1``, ... Without any,
        all heads are linear.
    family : str or Family
        Response distribution of each component (:doc:`/families`). Its location and its scale get
        a head; what else it has, such as the degrees of freedom, is one number a component.
    activation : {"tanh", "softplus", "relu"}
        What a unit makes of the sum of its inputs.
    priors, center, functions, levels, exposure, weights, group, expert, time, series
        As in :func:`mixture_of_experts`. The strength of weight decay, ``trunk_decay``, is learned.
    **parameters : str or int
        Other formulas of family parameters, which then are linear: ``sigma="~ 1"`` is one scale a
        component. A binomial family needs ``trials``.

    Returns
    -------
    MixtureOfExperts
        The description: a softmax gate and experts whose predictors are
        :class:`bayes_moe.predictors.MLP` with a common trunk. Fit it with ``method="ensemble"`` for
        the best predictions, ``"map"`` for one network, ``"laplace"`` (of the heads), ``"advi"`` or
        ``"nuts"``.

    Raises
    ------
    SpecError
        As :func:`mixture_of_experts`, and for settings of the network that cannot be.

    References
    ----------
    Bishop, C. M. (1994). Mixture density networks. Technical report NCRG/94/004, Aston University.

    Examples
    --------
    >>> import bayes_moe as bm
    >>> spec = bm.mixture_density("accel ~ times", components=3, hidden=(8,))
    >>> spec.n_experts
    3
    """
    _check_arguments(mixture_density, family, parameters)
    check_whole("components", components, 1)
    left, features = split_formula(without_offsets(formula))
    layers: Any = tuple(hidden) if isinstance(hidden, list | tuple) else hidden
    net = MLP(layers, activation, trunk=TRUNK if layers else None)
    heads = {}
    described = families.with_responses(families.made(family), left)
    for parameter in described.parameters:
        is_location = parameter.name in described.locations
        if is_location or (parameter.role == "scale" and parameter.name not in parameters):
            heads[parameter.name] = net
            if not is_location:
                parameters[parameter.name] = features
    component = Expert(formula, family, None, heads, levels, exposure, **parameters)
    gate = Softmax(features, predictor=net)
    experts = [component] * int(components)
    rows = (weights, group, expert, time, series)
    return MixtureOfExperts(gate, experts, priors, center, functions, (), None, *rows)


def _without_features(gate: Any, fixed: Mapping[str, Any] | None, group: str | None) -> Any:
    """The gate, or one without features if none is given and weights are fixed or of groups."""
    held = isinstance(fixed, Mapping) and WEIGHTS in fixed
    return "~ 1" if gate is None and (held or group is not None) else gate


def _check_tree_formulas(gate: Any) -> None:
    """Raise :class:`SpecError` unless a tree's gate is a formula, formulas by split, or None."""
    if gate is not None and not isinstance(gate, str | Mapping):
        raise SpecError(
            f"`gate` must be a formula, or formulas by split; it is {gate!r}. For another gate use "
            "bm.mixture_of_experts(gate=...)."
        )


def _check_arguments(
    recipe: Callable[..., Any], family: str | Family, parameters: Mapping[str, Any]
) -> None:
    """Raise :class:`SpecError` for a misspelt argument of a recipe.

    Other names are taken for parameters of the family, which an expert checks.
    """
    described = families.made(family)
    if described.takes_responses:  # the names of its parameters depend on the formula
        return
    free = [*free_parameters(described), *described.known_counts]
    arguments = inspect.signature(recipe).parameters.values()
    own = [a.name for a in arguments if a.kind is not inspect.Parameter.VAR_KEYWORD]
    for name in parameters:
        if name in free or families_with(name):
            continue
        if closest(name, [*own, *free]) in own:
            what = f"argument of bm.{recipe.__name__} or parameter of family {quoted(described)}"
            raise SpecError(unknown(what, name, [*own, *free]))
