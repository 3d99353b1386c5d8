"""Diagnosis of a fit: verdict, figures, and the experts' shares of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bayes_moe.core import html
from bayes_moe.diagnostics.check import Figures, check
from bayes_moe.diagnostics.usage import hill_number, usage, usage_table
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd

    from bayes_moe.data.design import Design
    from bayes_moe.diagnostics.autocorrelation import Autocorrelation

LEAST_USAGE = 0.02


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis:
    """Result of :func:`diagnose`; printing it prints the verdict and the tables.

    Attributes
    ----------
    ok : bool
        Whether all checks pass.
    verdict : str
        Failed checks with their remedies, or why the fit can be trusted.
    problems : tuple of str
        Failed checks, each with its remedy; empty if all pass.
    table : pandas.DataFrame
        The figures behind the verdict.
    usage : pandas.DataFrame
        By expert: the share of the rows' responsibility, posterior mean, sd and 5 %, 95 %
        quantiles; of one mode only the share itself.
    """

    ok: bool
    verdict: str
    problems: tuple[str, ...]
    table: pd.DataFrame
    usage: pd.DataFrame

    def __repr__(self) -> str:
        return (
            f"{self.verdict}\n\n{self.table.to_string()}\n\n"
            f"Share of responsibility by expert:\n{self.usage.to_string(float_format='%.3f')}"
        )

    def _repr_html_(self) -> str:
        """Verdict, problems with their remedies, shares and figures, for notebooks."""
        lines = self.verdict.splitlines()
        shares = [[label, *(f"{v:.3f}" for v in row)] for label, row in self.usage.iterrows()]
        return html.view(
            "All checks pass" if self.ok else lines[0].rstrip(":"),
            html.items(self.problems),
            html.paragraph(self.verdict if self.ok else lines[-1]),
            html.table(
                ["expert", *self.usage.columns], shares, caption="Share of responsibility by expert"
            ),
            html.table([], self.table["value"].items(), caption="Figures"),
        )


def diagnose(fit: Fit) -> Diagnosis:
    """Check whether a fit can be trusted, and how many rows each expert takes.

    Of draws by a sampler it checks divergences, R-hat and effective sample sizes of the reported
    (relabelled) variables, R-hat of quantities that labels cannot change, E-BFMI, tree depth, the
    certainty of labels and the experts' usage. Of a mode (``"em"``, ``"map"``, ``"laplace"``) it
    checks the gradient, whether a maximum exists, how many starts reached it, and the Pareto k of
    draws about it. Of a fitted approximation (``"advi"``, ``"pathfinder"``) it checks whether the
    evidence lower bound has settled, the Pareto k, and the effective number of resampled draws.
    Of an ensemble it checks whether its members have converged, and the held-out log density.
    Of any fit it checks whether two experts predict the same on the rows that they take; the
    effective number of experts counts these as one. Of a model with ``time`` it tests whether the
    residuals of each expert are correlated with those of the rows before, weighted by
    responsibility (Ljung-Box; of one numeric response).

    Parameters
    ----------
    fit : Fit
        A fit.

    Returns
    -------
    Diagnosis
        With ``ok``, ``verdict``, ``problems``, ``table`` and ``usage``.

    References
    ----------
    Vehtari, A., Gelman, A., Simpson, D., Carpenter, B., & Bürkner, P.-C. (2021).
    Rank-normalization, folding, and localization: an improved R-hat. Bayesian Analysis, 16(2).
    """
    checked = check(fit.idata, fit.spec, fit.design)
    shares = usage(fit)
    table = usage_table(shares)
    correlations = _correlations(fit)
    correlated = [each.problem for each in correlations if each.problem]
    problems = [*checked.problems, *_idle(table), *correlated]
    effective = float(hill_number(checked.experts.merged(shares)).mean())
    return Diagnosis(
        ok=not problems,
        verdict=_verdict(checked.figures, table, problems, fit.design),
        problems=tuple(problems),
        table=_figure_table(checked.figures, effective, correlations),
        usage=table,
    )


def _correlations(fit: Fit) -> list[Autocorrelation]:
    """Autocorrelations of the experts' residuals; none of models without times."""
    if fit.design.rows.observation.time is None:
        return []
    # It reads predictions, which other diagnoses do not wait for.
    from bayes_moe.diagnostics.autocorrelation import autocorrelations

    return autocorrelations(fit)


def _figure_table(
    figures: Figures, effective: float, correlations: list[Autocorrelation]
) -> pd.DataFrame:
    import pandas as pd

    values = figures.table | {"effective experts": f"{effective:.2f}"}
    for each in correlations:
        values[f"residuals of expert {each.label}"] = each.figure
    return pd.DataFrame({"value": pd.Series(values, dtype=object)})


def _idle(table: pd.DataFrame) -> list[str]:
    """Messages for experts that take few rows."""
    return [
        f"Expert {label} takes {share:.1%} of the rows on average: fewer experts may do."
        for label, share in table["mean"].items()
        if share < LEAST_USAGE
    ]


def _verdict(figures: Figures, table: pd.DataFrame, problems: list[str], design: Design) -> str:
    n_dropped, n_lost = design.n_dropped, design.n_lost
    shares = ", ".join(f"expert {k} {share:.0%}" for k, share in table["mean"].items())
    tail = f"Share of the rows: {shares}."
    if n_dropped:
        tail += f" {n_dropped} rows with missing values were left out."
    if n_lost:
        tail += f" {n_lost} first rows, which have too few rows before them, were left out."
    if problems:
        return "Not yet to be trusted:\n- " + "\n- ".join(problems) + f"\n{tail}"
    return f"{figures.trust} {tail}"
