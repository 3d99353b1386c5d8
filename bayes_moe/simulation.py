"""Simulated responses, with known parameters or with parameters from the prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import seeds
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.class_labels import ResponseRule, labelled
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import looked_up
from bayes_moe.data.observation import in_time_only
from bayes_moe.data.responses import response_formula, response_parts
from bayes_moe.data.tables import to_pandas
from bayes_moe.data.time_terms import time_terms
from bayes_moe.graph.prior_draws import check_prior_draws, prior_draws
from bayes_moe.model.allocation import allocation_of, with_groups
from bayes_moe.model.allocation_checks import check_shared_rows
from bayes_moe.model.drawn_effects import with_drawn_effects
from bayes_moe.model.evaluation import evaluate
from bayes_moe.model.likelihood import random_expert
from bayes_moe.model.memory import random_paths
from bayes_moe.model.parameters import checked
from bayes_moe.model.spec import MixtureOfExperts, with_levels
from bayes_moe.prediction.simulated_series import (
    check_in_turn,
    check_same_columns,
    simulated_series,
    with_stand_ins,
)

if TYPE_CHECKING:
    import pandas as pd


def simulate(
    spec: MixtureOfExperts,
    rows: Any,
    parameters: Mapping[str, Any] | None = None,
    *,
    random_seed: int | None = None,
    expert_column: str | None = None,
) -> pd.DataFrame:
    """Return a table with responses simulated from a mixture of experts.

    Parameters
    ----------
    spec : MixtureOfExperts
        The model; its response must be a plain column.
    rows : table
        Rows with the features, and the number of trials of a binomial family. Where formulas look
        back at the response, as in ``lag(y, 2)``, also the responses of the first rows of each
        series, two in this case, from which it goes on; those of later rows are not read.
    parameters : mapping of str to array, optional
        Each reported variable on the user's scale: ``gate_coef`` (expert, gate_term),
        ``mu_coef`` (expert, mu_term), ``sigma`` (expert,), of classes ``p_coef`` (class, expert,
        p_term), ... Effects of groups are drawn from their distribution if their standard
        deviations are given without them. By default all are drawn from
        the prior, whose default scales depend on the response in ``rows``.
    random_seed : int, optional
        The same seed gives the same responses.
    expert_column : str, optional
        Name of a column with the label of the expert that generated each row.

    Returns
    -------
    pandas.DataFrame
        The rows with simulated responses, which are labels if the description has classes, and the
        parameters in ``.attrs["parameters"]``.

    Raises
    ------
    SpecError
        For unknown, missing or wrongly shaped parameters; beside lags of the response, for rows
        that share an expert by group, predictors that remember all rows, and columns such as
        ``bs(lag(y, 1), df=4)``, whose knots would depend on responses that are not known yet.
    DataError
        For first rows of a series without the responses that lags need.

    Notes
    -----
    With lags of the response, rows are simulated one after the other. The table has all rows, the
    first ones of each series as they were given, without an expert in ``expert_column``; a model
    fitted to it leaves these out, so that its likelihood is that of the simulated rows. To start
    from the stationary distribution, begin anywhere and leave out enough of the first rows. With
    lags of features alone, first rows that have too few rows before are left out.

    Examples
    --------
    >>> spec = bm.mixture_of_experts("y ~ lag(y, 1)", experts=1, time="t")
    >>> rows = {"t": [0, 1, 2, 3], "y": [10.0, np.nan, np.nan, np.nan]}
    >>> table = bm.simulate(spec, rows, {"mu_coef": [[0.0, 0.5]], "sigma": [1e-9]}, random_seed=1)
    >>> table["y"].round(3).tolist()
    [10.0, 5.0, 2.5, 1.25]
    """
    table = to_pandas(rows)
    responses = _response_columns(spec)
    if expert_column is not None and expert_column in (*table.columns, *responses):
        raise SpecError(f"`expert_column` would overwrite the column {expert_column!r}.")
    rng = np.random.default_rng(seeds.resolve(random_seed))
    terms = [t for t in time_terms(spec.expressions, table.columns) if {*t.columns} & {*responses}]
    if terms:
        check_in_turn(spec, terms)
    if parameters is None:
        spec, parameters = _from_prior(spec, table, rng)
    complete = with_stand_ins(spec, table, terms, responses) if terms else table
    design = _design(spec, complete)
    if terms and complete is not table:
        other = with_stand_ins(spec, table, terms, responses, shift=1.0)
        check_same_columns(spec, design, _design(spec, other), terms)
    if isinstance(parameters, Mapping):
        parameters = with_drawn_effects(spec, design, parameters, rng)
    values = checked(spec, design, parameters)
    draw = {k: v[None] for k, v in values.items()}
    if terms:
        found = simulated_series(spec, design, draw, terms, table, rng)
        drawn = _Drawn(*found)
    else:
        drawn = _by_rows(spec, design, draw, table, rng)
    result = _with_responses(spec, table, design, responses, drawn, bool(terms))
    if expert_column is not None:
        result[expert_column] = _expert_labels(spec, table, design, drawn.chosen, bool(terms))
    reported = _reported(spec, values)
    result.attrs["parameters"] = {name: value.tolist() for name, value in reported.items()}
    return result


@dataclass(frozen=True)
class _Drawn:
    """Responses (response, obs) of the rows of a design, and the experts (obs,) that made them."""

    responses: np.ndarray
    chosen: np.ndarray


def _by_rows(
    spec: MixtureOfExperts,
    design: Design,
    draw: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    rng: np.random.Generator,
) -> _Drawn:
    """Responses of rows that do not look back at responses, all at once."""
    columns = replace(spec.row_columns, expert=None)
    mixture = evaluate(spec, draw, design.rows)
    own = table.iloc[design.rows.obs_id] if design.n_lost else table
    grouped = with_groups(design.rows, columns, own, needed=True)
    check_shared_rows(spec.structure, columns, grouped)
    shared = allocation_of(grouped.observation)
    if spec.structure.gate.chain is None:
        chosen = shared.spread(random_expert(mixture.log_weights[0][:, shared.first].T, rng))
    else:
        chosen = random_paths(spec.structure, draw, design.rows, rng)[0]
    responses = mixture.expert_random(rng)[0][..., chosen, np.arange(design.rows.size)]
    return _Drawn(np.atleast_2d(responses), chosen)


def _with_responses(
    spec: MixtureOfExperts,
    table: pd.DataFrame,
    design: Design,
    responses: Sequence[str],
    drawn: _Drawn,
    keep_first: bool,
) -> pd.DataFrame:
    """Table with simulated responses.

    First rows that are before those of the design are kept with the responses that they have, where
    lags of the response begin there, and left out otherwise.
    """
    at, rule = design.rows.obs_id, spec.response_rule
    result = table.copy() if keep_first or not design.n_lost else table.iloc[at].copy()
    for name, values in zip(responses, drawn.responses, strict=True):
        found = values
        if keep_first:
            found = np.empty(len(table), dtype=values.dtype)
            first = np.setdiff1d(np.arange(len(table)), at)
            given = table[name].to_numpy(dtype=float, na_value=np.nan)[first]
            if rule.given is not None:
                given = np.searchsorted(np.array(rule.given, dtype=float), given)
            whole = values.dtype.kind != "i" or bool((given == np.round(given)).all())
            found = found if whole else found.astype(float)
            found[first], found[at] = given, values
        result[name] = found if rule.given is None else labelled(found, rule.given, rule.ordered)
    return result


def _expert_labels(
    spec: MixtureOfExperts, table: pd.DataFrame, design: Design, chosen: np.ndarray, first: bool
) -> Any:
    """Labels of the experts of rows; missing in ``first`` rows, which are given."""
    import pandas as pd

    labels = np.asarray(spec.expert_labels)[chosen]
    if not first:
        return labels
    found = pd.Series([None] * len(table), dtype=object, index=table.index)
    found.iloc[design.rows.obs_id] = labels
    return found.convert_dtypes()


def _reported(spec: MixtureOfExperts, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of variables in the shapes in which they are reported."""
    pairs, dims = spec.structure.pairs, spec.structure.dims
    return {name: pairs.reported(value, dims[name]) for name, value in values.items()}


def _design(spec: MixtureOfExperts, table: pd.DataFrame) -> Design:
    """Design of a table without responses, in time where it has times or needs them."""
    columns, rule = spec.row_columns, ResponseRule("")
    if columns.time in table or time_terms(spec.expressions, table.columns):
        rule = ResponseRule("", row_columns=in_time_only(columns))
    return Design.from_data(
        rule, spec.formulas, table, center=spec.center, functions=spec.functions
    )


def _response_columns(spec: MixtureOfExperts) -> list[str]:
    """Columns of the responses, which must be columns to be simulated."""
    columns = [part.strip("`") for part in response_parts(spec.response)]
    if looked_up(response_formula(spec.response)) != columns:
        raise SpecError(f"The response {spec.response!r} is an expression; simulate a column.")
    return columns


def _from_prior(
    spec: MixtureOfExperts, table: pd.DataFrame, rng: np.random.Generator
) -> tuple[MixtureOfExperts, dict[str, np.ndarray]]:
    """Return the description with the table's classes, and a draw of each variable of the prior."""
    check_prior_draws(spec)
    absent = [name for name in _response_columns(spec) if name not in table.columns]
    if absent:
        raise DataError(
            f"Default priors are scaled to the response: give rows with a column "
            f"{absent[0]!r}, or give `parameters`."
        )
    design = spec.design(table)
    spec = with_levels(spec, design.levels)
    drawn = prior_draws(spec, design, 1, int(rng.integers(2**31)))
    return spec, _reported(spec, {name: v[0] for name, v in drawn.items()})
