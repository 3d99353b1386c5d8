"""Simulated responses, with known parameters or with parameters from the prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from bayes_moe.graph.build import build_design
from bayes_moe.model.allocation import allocation_of, with_groups
from bayes_moe.model.allocation_checks import check_shared_rows
from bayes_moe.model.drawn_effects import with_drawn_effects
from bayes_moe.model.evaluation import evaluate
from bayes_moe.model.likelihood import random_expert
from bayes_moe.model.memory import random_paths
from bayes_moe.model.parameters import checked
from bayes_moe.model.spec import MixtureOfExperts, with_levels

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
        Rows with the features, and the number of trials of a binomial family.
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
        For unknown, missing or wrongly shaped parameters, and lags of the response.

    Notes
    -----
    First rows of series that have too few rows before for the lags of features are left out.
    """
    table = to_pandas(rows)
    responses = _response_columns(spec)
    _check_lags(spec, responses, table)
    columns = replace(spec.row_columns, expert=None)
    if expert_column is not None and expert_column in (*table.columns, *responses):
        raise SpecError(f"`expert_column` would overwrite the column {expert_column!r}.")
    rng = np.random.default_rng(seeds.resolve(random_seed))
    if parameters is None:
        spec, parameters = _from_prior(spec, table, rng)
    design = _design(spec, table)
    table = table.iloc[design.rows.obs_id] if design.n_lost else table
    if isinstance(parameters, Mapping):
        parameters = with_drawn_effects(spec, design, parameters, rng)
    values = checked(spec, design, parameters)
    drawn = {k: v[None] for k, v in values.items()}
    mixture = evaluate(spec, drawn, design.rows)
    grouped = with_groups(design.rows, columns, table, needed=True)
    check_shared_rows(spec.structure, columns, grouped)
    shared = allocation_of(grouped.observation)
    if spec.structure.gate.chain is None:
        chosen = shared.spread(random_expert(mixture.log_weights[0][:, shared.first].T, rng))
    else:
        chosen = random_paths(spec.structure, drawn, design.rows, rng)[0]
    response = mixture.expert_random(rng)[0][..., chosen, np.arange(design.rows.size)]
    result = table.copy()
    rule = spec.response_rule
    if rule.given is not None:
        response = labelled(response, rule.given, rule.ordered)
    for column, drawn in zip(
        responses, response if len(responses) > 1 else [response], strict=True
    ):
        result[column] = drawn
    if expert_column is not None:
        result[expert_column] = np.asarray(spec.expert_labels)[chosen]
    reported = _reported(spec, values)
    result.attrs["parameters"] = {name: value.tolist() for name, value in reported.items()}
    return result


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


def _check_lags(spec: MixtureOfExperts, responses: list[str], table: pd.DataFrame) -> None:
    """Raise :class:`SpecError` for lags of the response, unless a table has their columns."""
    for term in time_terms(spec.expressions, table.columns):
        if {*term.columns} & {*responses}:
            raise SpecError(
                f"Responses cannot be simulated, since {term.name!r} is of the response itself: "
                "fit the model and simulate what follows its rows by bm.forecast(fit, steps), or "
                f"give the table a column {term.name!r}."
            )


def _response_columns(spec: MixtureOfExperts) -> list[str]:
    """Columns of the responses, which must be columns to be simulated."""
    columns = [part.strip("`") for part in response_parts(spec.response)]
    if looked_up(response_formula(spec.response)) != columns:
        raise SpecError(f"The response {spec.response!r} is an expression; simulate a column.")
    return columns


def check_prior_draws(spec: MixtureOfExperts) -> None:
    """Raise :class:`SpecError` for a model whose prior cannot be drawn from."""
    if not spec.structure.has_gradient:
        raise SpecError(
            "Regression trees have no prior density to draw from, so no data can be drawn from "
            "the prior of a model with them."
        )


def prior_draws(
    spec: MixtureOfExperts, design: Design, draws: int, random_seed: int
) -> dict[str, np.ndarray]:
    """Return draws (draw, ...) of each reported variable from the prior of a design."""
    import pymc as pm

    from bayes_moe.graph.numpy_mode import mode

    model = build_design(spec, design, "fused").model
    wanted = [model[name] for name in spec.variables]
    drawn = pm.draw(wanted, draws=draws, random_seed=random_seed, mode=mode())
    shaped = (values if draws > 1 else np.asarray(values)[None] for values in drawn)
    return dict(zip(spec.variables, shaped, strict=True))


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
