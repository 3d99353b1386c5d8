"""Graphs for users: their free variables are the reported ones, so draws of a fit go with them.

A graph of a description has the reported coefficients of linear predictors as free variables; they
refer to the user's features, and so mean the same whatever the table. Where a predictor makes its
columns from the table (knots, scales, categories), its free variables are the internal ones, which
no posterior has. A graph of a fit has all reported variables, on the fit's bases, without priors.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.core.graph_context import GraphContext
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import used_columns
from bayes_moe.data.sparse_matrix import check_no_sparse
from bayes_moe.data.tables import to_pandas
from bayes_moe.graph.build import Graph, build_model
from bayes_moe.graph.mixture_variable import LIKELIHOODS
from bayes_moe.model.allocation import observed_rows, with_groups
from bayes_moe.model.allocation_checks import check_shared_rows
from bayes_moe.model.portability import is_portable, portable_stems
from bayes_moe.model.spec import MixtureOfExperts, with_levels


@runtime_checkable
class Fitted(Protocol):
    """What a graph reads of a fit."""

    spec: MixtureOfExperts
    design: Design
    idata: Any


def build(
    spec: MixtureOfExperts | Fitted,
    data: Any = None,
    *,
    missing: str = "raise",
    likelihood: str = "fused",
) -> Graph:
    """Build the PyMC model of a description on data, or of a fit on new rows.

    Parameters
    ----------
    spec : MixtureOfExperts or Fit
        A description, whose model can be sampled; or a fit, whose draws are to be combined with
        other rows: its bases, knots, categories and scales are kept, and its variables have no
        prior.
    data : table or Design
        pandas, polars, a dict of arrays, or a design. For a fit, new rows, with or without the
        response; by default the fitted rows.
    missing : {"raise", "drop"}
        What to do with rows that have missing values; rows for a fit must have none.
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

    Notes
    -----
    In the graph of a description, the free variables of linear predictors are the reported
    coefficients, and draws of a fit of the same description go with the graph of any table. Other
    predictors, and formulas with categories or with functions of all rows (``bs``, ``poly``,
    ``scale``, ...), make their columns from the table: there the free variables are internal ones,
    and combining the graph with draws of a fit is an error, a ``KeyError`` of
    :func:`pymc.compute_log_likelihood` and a ``SpecError`` of
    :func:`pymc.sample_posterior_predictive`. Use ``bm.build(fit, rows)``.
    """
    if likelihood not in LIKELIHOODS:
        raise SpecError(unknown("likelihood", likelihood, LIKELIHOODS))
    if not isinstance(spec, MixtureOfExperts):
        if not isinstance(spec, Fitted):
            raise SpecError(
                "The first argument must be a MixtureOfExperts or a Fit, got "
                f"{type(spec).__name__}."
            )
        return _of_fit(spec, data, likelihood)
    if data is None:
        raise SpecError("Give the table: bm.build(spec, table).")
    if missing == "model":
        raise SpecError(
            "A graph cannot integrate missing features out: build it with missing='drop', or fit "
            "with method='em'."
        )
    design = data if isinstance(data, Design) else spec.design(data, missing)
    spec = with_levels(spec, design.levels)
    return build_model(spec, design, design.rows, likelihood, _context(spec, design))


def _context(spec: MixtureOfExperts, design: Design) -> GraphContext:
    """Which predictors have their reported coefficients as free variables."""
    reported, pairs = portable_stems(spec, design), spec.structure.pairs
    if is_portable(spec, design):
        return GraphContext(reported=reported, pairs=pairs)
    from bayes_moe.graph.table_mark import table_mark

    return GraphContext(reported=reported, mark=table_mark(), pairs=pairs)


def _of_fit(fit: Fitted, data: Any, likelihood: str) -> Graph:
    """Graph of new rows for the draws of a fit."""
    spec, design = fit.spec, fit.design
    if _has_response(design, data):
        rows = observed_rows(design, spec.row_columns, data)
    else:
        rows = with_groups(design.transform(data), spec.row_columns, data)
    check_no_sparse(rows, "PyMC's graph of a model")
    check_shared_rows(spec.structure, spec.row_columns, rows)
    if any(np.isnan(m.values).any() for m in rows.matrices.values()):
        raise SpecError(
            "A graph cannot integrate missing features out: give rows without missing values, or "
            "use bm.log_density and bm.predict, which do."
        )
    posterior = fit.idata[names.POSTERIOR].to_dataset()
    other = {names.CHAIN, names.DRAW, names.OBS}
    coords = {d: posterior[d].values for d in map(str, posterior.dims) if d not in other}
    context = GraphContext(given=True, pairs=spec.structure.pairs)
    return build_model(spec, design, rows, likelihood, context, coords=coords)


def _has_response(design: Design, data: Any) -> bool:
    """Whether rows have all columns of the response."""
    if data is None:
        return True
    needed = used_columns([design.response_formula], list(design.columns.columns))
    return {*needed} <= {*to_pandas(data).columns}
