"""What a model's prior says of the rows of a table, before any fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import html, names, seeds
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.data.matrix import Rows
from bayes_moe.data.recording import unstated_limits
from bayes_moe.data.responses import response_dims, response_parts
from bayes_moe.diagnostics.usage import hill_number
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts, with_levels
from bayes_moe.prediction.prior_responses import prior_dataset, prior_responses
from bayes_moe.prediction.recorded_rows import with_limits
from bayes_moe.results.draws import stacked_draws

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SHARE, EFFECTIVE, ENTROPY = "share", "effective_experts", "gate_entropy"
"""Names in the group ``sample_stats_prior``."""

LARGEST = 2 * 10**7
"""Draws x rows up to which responses are drawn for all rows of a table (160 MB)."""

MOST_VALUES = 12
"""Different responses up to which a discrete response is described by their shares."""

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, repr=False, eq=False)
class PriorPredictive:
    """Result of :func:`prior_predictive`; printing it prints its tables.

    Attributes
    ----------
    spec : MixtureOfExperts
        The description.
    idata : xarray.DataTree
        The groups ``prior`` (variables by chain, draw, ...), ``prior_predictive`` (the response
        ``y`` by chain, draw, obs_id), ``observed_data`` (``y`` by obs_id) and
        ``sample_stats_prior``: ``share`` (chain, draw, expert), the mean over rows of the experts'
        gate weights; ``effective_experts`` (chain, draw), the exponential of the entropy of the
        shares: from 1 to the number of experts; ``gate_entropy`` (chain, draw), the mean over rows
        of ``- sum_k w_k log w_k`` in nats: 0 where each row belongs to one expert, the log of the
        number of experts where all weights are equal.
    n_rows : int
        Rows of the table; of a large one, every m-th row is in ``idata``.
    levels : tuple or None
        Labels of the response's classes, whose codes 0, 1, ... are in ``idata``.
    shown : str or None
        The one of several responses that it is of; None if it is of all.
    """

    spec: MixtureOfExperts
    idata: xr.DataTree
    n_rows: int
    levels: tuple[Any, ...] | None = None
    shown: str | None = None

    @property
    def drawn(self) -> np.ndarray:
        """Responses drawn from the prior (draw, obs), or (draw, obs, response)."""
        return self._group(names.PRIOR_PREDICTIVE)[names.RESPONSE].values[0]

    @property
    def observed(self) -> np.ndarray:
        """Responses of the table (obs,), or (obs, response)."""
        return self._group(names.OBSERVED_DATA)[names.RESPONSE].values

    @property
    def responses(self) -> tuple[str, ...]:
        """The responses: one, or those of ``cbind(y1, y2)``."""
        return response_parts(self.spec.response) if self.shown is None else (self.shown,)

    def margin(self, response: str) -> PriorPredictive:
        """Return what the prior says of one of several responses."""
        check_one_of("response", response, self.responses)
        if len(self.responses) == 1:
            return self
        tree = self.idata.copy()
        for name in (names.PRIOR_PREDICTIVE, names.OBSERVED_DATA):
            own = self._group(name).sel({names.RESPONSE_DIM: response}, drop=True)
            tree[name] = type(tree)(own)
        return replace(self, idata=tree, shown=response)

    @cached_property
    def response(self) -> pd.DataFrame:
        """Responses of the table and of the prior: quantiles, or shares of each of a few values."""
        import pandas as pd

        if len(self.responses) > 1:
            return pd.concat({name: self.margin(name).response for name in self.responses})
        values = np.unique(self.observed)
        if self.levels:
            by_code = {float(code): str(level) for code, level in enumerate(self.levels)}
            return _value_shares(self.observed, self.drawn, by_code)
        if self.spec.structure.discrete and values.size <= MOST_VALUES:
            return _value_shares(self.observed, self.drawn, {v: f"{v:g}" for v in values})
        return _quantiles(self.observed, self.drawn)

    @cached_property
    def outside(self) -> dict[str, float]:
        """Shares of the drawn responses in relation to the observed range.

        Of several responses, each is compared with its own range. They are ``"below"`` and
        ``"above"`` it, ``"far"`` outside (by more than ten times its
        length), and ``"not finite"``: too large for a double.
        """
        low, high = self.observed.min(axis=0), self.observed.max(axis=0)
        drawn, far = self.drawn, 10.0 * np.maximum(high - low, np.finfo(float).tiny)
        with np.errstate(invalid="ignore"):
            shares = {
                "below": drawn < low,
                "above": drawn > high,
                "far": (drawn < low - far) | (drawn > high + far),
                "not finite": ~np.isfinite(drawn),
            }
        return {name: float(where.mean()) for name, where in shares.items()}

    @cached_property
    def gate(self) -> pd.DataFrame:
        """Experts in use and gate entropy: mean and 5 %, 50 %, 95 % quantiles over draws."""
        import pandas as pd

        stats = self._group(names.SAMPLE_STATS_PRIOR)
        rows = {
            "effective experts": stats[EFFECTIVE].values[0],
            "largest share of rows": stats[SHARE].values[0].max(axis=-1),
            "smallest share of rows": stats[SHARE].values[0].min(axis=-1),
            "gate entropy": stats[ENTROPY].values[0],
        }
        table = {
            name: [values.mean(), *np.quantile(values, [0.05, 0.5, 0.95])]
            for name, values in rows.items()
        }
        return pd.DataFrame.from_dict(table, orient="index", columns=["mean", "5%", "50%", "95%"])

    @cached_property
    def shares(self) -> pd.Series:
        """Mean share of the rows by expert; equal for exchangeable experts, but for chance."""
        import pandas as pd

        shares = self._group(names.SAMPLE_STATS_PRIOR)[SHARE].values[0].mean(axis=0)
        return pd.Series(shares, index=pd.Index(self.spec.expert_labels, name=names.EXPERT))

    def _group(self, name: str) -> xr.Dataset:
        return self.idata[name].to_dataset()

    def _title(self) -> str:
        n, used = self.n_rows, len(self.observed)
        rows = f"{n} rows" if n == used else f"{used} of {n} rows"
        of = ", ".join(self.responses)
        return f"Prior predictive of {of}: {len(self.drawn)} draws on {rows}"

    def _range_sentence(self) -> str:
        parts = (f"{100 * share:.1f} % {name}" for name, share in self.outside.items())
        return f"Drawn responses outside the observed range: {', '.join(parts)}.{self._limits}"

    @property
    def _limits(self) -> str:
        """What drawn responses are of a censored response whose limits are not stated."""
        if not unstated_limits(self.spec.response):
            return ""
        return (
            " They are those before censoring, since the formula does not state at which limits "
            "rows would be censored."
        )

    def _gate_sentence(self) -> str:
        most = self.spec.n_experts
        return (
            f"Of {most} experts; gate entropy from 0 (each row has one expert) to "
            f"{np.log(most):.2f} (equal weights)."
        )

    def __repr__(self) -> str:
        parts = [self._title(), self.response.to_string(float_format="%.4g")]
        if not self.levels:
            parts.append(self._range_sentence())
        if self.spec.n_experts > 1:
            parts.append(f"{self.gate.to_string(float_format='%.3f')}\n{self._gate_sentence()}")
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """Tables of the response and of the gate, for notebooks."""
        views = [_html_table(self.response, "%.4g", "Response")]
        if not self.levels:
            views.append(html.paragraph(self._range_sentence()))
        if self.spec.n_experts > 1:
            views.append(_html_table(self.gate, "%.3f", "Experts in use"))
            views.append(html.paragraph(self._gate_sentence()))
        return html.view(self._title(), *views)


def prior_predictive(
    spec: MixtureOfExperts, data: Any, *, draws: int = 500, random_seed: int | None = None
) -> PriorPredictive:
    """Draw parameters from the prior, and with them a response for every row of a table.

    Printing the result compares the drawn responses with the observed ones, and says how many
    experts the prior uses and how sharply the gate separates rows. A prior that only draws
    responses far outside the observed range, or gates that give all rows to one expert, is worth a
    second look before a fit. Nothing is compiled. Of a truncated response, and of a censored one
    whose limits the formula states, responses are drawn as they would be recorded; of one with a
    status or with intervals, they are those before censoring. Terms that look back at the response,
    such as ``lag(y, 1)``, read the observed rows before, so that draws are one step ahead;
    :func:`simulate` draws whole series.

    Parameters
    ----------
    spec : MixtureOfExperts
        A description.
    data : table
        The table that is to be fitted; default priors are scaled to its response.
    draws : int
        Number of draws from the prior.
    random_seed : int, optional
        The same seed gives the same draws.

    Returns
    -------
    PriorPredictive
        With ``response``, ``gate``, ``shares`` and ``outside`` as tables, and ``idata``, a
        DataTree with the groups ``prior``, ``prior_predictive``, ``observed_data`` and
        ``sample_stats_prior``, which ArviZ reads. :func:`plot_prior_predictive` draws it.

    Raises
    ------
    SpecError
        For regression trees, which have no prior density to draw from.
    DataError
        For a table that the model cannot be fitted to.

    Examples
    --------
    >>> spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=3)  # doctest: +SKIP
    >>> bm.prior_predictive(spec, bm.load_dataset("tone"), random_seed=1)  # doctest: +SKIP

    References
    ----------
    Gabry, J., Simpson, D., Vehtari, A., Betancourt, M., & Gelman, A. (2019). Visualization in
    Bayesian workflow. Journal of the Royal Statistical Society A, 182(2), 389-402.
    """
    import xarray as xr

    check_whole("draws", draws, 1)
    design = spec.design(data)
    spec = with_levels(spec, design.levels)
    rows = design.rows
    step = -(-draws * rows.size // LARGEST)
    if step > 1:
        rows = rows.pick(np.arange(0, rows.size, step))
    if not unstated_limits(spec.response):
        rows = with_limits(spec, design, rows)
    sequence = np.random.SeedSequence(seeds.resolve(random_seed))
    of_prior, of_responses = (int(s) for s in sequence.generate_state(2))
    prior = prior_dataset(spec, design, draws, of_prior)
    dims, labels = response_dims(spec.response)
    coords = {names.OBS: rows.obs_id} | labels
    plain = spec.structure.blocks[0].family.plain(rows.observed)
    observed = xr.DataArray(plain.T, dims=dims, coords=coords)
    groups = {
        names.PRIOR: prior,
        names.PRIOR_PREDICTIVE: prior_responses(spec, prior, rows, of_responses),
        names.SAMPLE_STATS_PRIOR: _gate_figures(spec, prior, rows),
        names.OBSERVED_DATA: observed.to_dataset(name=names.RESPONSE),
    }
    tree = xr.DataTree.from_dict(groups)
    for group in groups:
        tree[group].attrs[names.RESPONSE_TERM] = spec.response
    return PriorPredictive(spec, tree, design.rows.size, design.levels)


def _gate_figures(spec: MixtureOfExperts, prior: xr.Dataset, rows: Rows) -> xr.Dataset:
    """Shares of the rows by expert, their effective number, and the gate's mean entropy."""
    import xarray as xr
    from scipy.special import entr

    drawn = stacked_draws(spec, prior)
    shares = np.zeros((prior.sizes[names.DRAW], spec.n_experts))
    entropy = np.zeros(len(shares))
    for _, _, mixture in chunks(spec, drawn, rows):
        weights = mixture.weights
        shares += weights.sum(axis=-1)
        entropy += entr(weights).sum(axis=(-1, -2))
    sample = (names.CHAIN, names.DRAW)
    coords = {d: prior[d].values for d in sample}
    by_expert = coords | {names.EXPERT: np.asarray(spec.expert_labels)}
    share = xr.DataArray((shares / rows.size)[None], dims=tuple(by_expert), coords=by_expert)
    mean = xr.DataArray((entropy / rows.size)[None], dims=sample, coords=coords)
    return xr.Dataset({SHARE: share, EFFECTIVE: hill_number(share), ENTROPY: mean})


def _quantiles(observed: np.ndarray, drawn: np.ndarray) -> pd.DataFrame:
    """Quantiles of the observed and of the drawn responses, all rows and draws together."""
    import pandas as pd

    # Without interpolation, which fails between infinite values.
    rows = [np.quantile(v[~np.isnan(v)], LEVELS, method="inverted_cdf") for v in (observed, drawn)]
    columns = [f"{100 * level:g}%" for level in LEVELS]
    return pd.DataFrame(rows, index=["observed", "prior"], columns=columns)


def _value_shares(
    observed: np.ndarray, drawn: np.ndarray, values: Mapping[float, str]
) -> pd.DataFrame:
    """Share of each named value, observed and drawn: mean and 5 %, 95 % quantiles over draws."""
    import pandas as pd

    where = [drawn == value for value in values] + [~np.isin(drawn, [*values])]
    by_draw = np.stack([at.mean(axis=-1) for at in where])
    low, high = np.quantile(by_draw, [0.05, 0.95], axis=-1)
    seen = [*((observed == value).mean() for value in values), 0.0]
    table = {"observed": seen, "prior": by_draw.mean(axis=-1), "5%": low, "95%": high}
    index = pd.Index([*values.values(), "other"], name=names.RESPONSE)
    result = pd.DataFrame(table, index=index)
    return result if by_draw[-1].any() else result.iloc[:-1]


def _html_table(table: pd.DataFrame, style: str, caption: str) -> str:
    rows = [[label, *(style % value for value in row)] for label, row in table.iterrows()]
    return html.table(["", *table.columns], rows, caption=caption)
