"""Settings of NUTS on several posteriors: mass matrix and target acceptance."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd

import bayes_moe as bm
from benchmarks import cases
from benchmarks.cases import Case
from benchmarks.page import Section
from benchmarks.timing import Row, seconds

SETTINGS = [("diag", 0.8), ("diag", 0.9), ("low_rank", 0.8), ("low_rank", 0.9)]
SEEDS = (1, 2, 3)
TABLES = [
    ("tone", "tuned ~ stretchratio", "~ stretchratio", 2, "normal"),
    ("tone", "tuned ~ stretchratio", "~ stretchratio", 2, "studentt"),
    ("mcycle", "accel ~ times", "~ times", 3, "normal"),
    ("NPreg", "yn ~ x + I(x**2)", "~ x", 2, "normal"),
    ("NPreg", "yp ~ x", "~ 1", 2, "poisson"),
    ("patent", "Patents ~ lgRD", "~ RDS", 3, "poisson"),
    ("ethanol", "Equivalence ~ NO", "~ NO", 3, "normal"),
]


def correlated() -> Case:
    """Five features that share most of their variance."""
    rng = np.random.default_rng(3)
    common = rng.normal(size=(800, 1))
    x = common + 0.15 * rng.normal(size=(800, 5))
    table = pd.DataFrame(x, columns=list("abcde"))
    first = rng.random(800) < 1 / (1 + np.exp(-2 * x[:, 0]))
    means = np.where(first, 1 + x @ [1, -1, 0.5, 0, 0], -1 + x @ [0, 0.5, 0, 1, -1])
    table["y"] = rng.normal(means, 0.5)
    right = "~ a + b + c + d + e"
    return Case("correlated features, n = 800, K = 2", table, f"y {right}", right, 2)


def posteriors() -> tuple[list[Case], list[str]]:
    """Posteriors whose tables are installed, and a note on each other one."""
    listed, skipped = [], []
    for data, formula, gate, experts, family in TABLES:
        what = f"{data}, K = {experts}, `{formula}`, gate `{gate}`, {family}"
        if data != "tone" and not cases.REFERENCE.is_dir():
            skipped.append(f"{what}: skipped, the reference tables are not here")
            continue
        table = cases.shipped(data) if data == "tone" else cases.reference(data)()
        listed.append(Case(what, table, formula, gate, experts, family))
    return [*listed, correlated(), cases.simulated(5_000)], skipped


@dataclass(frozen=True)
class Run:
    """Figures of one fit; ESS is the least over label-invariant quantities."""

    seconds: float
    ess: float
    steps: float
    divergent: int
    rhat: float


def run(case: Case, adaptation: str, target: float, seed: int) -> Run:
    import arviz_stats as azs

    from bayes_moe.diagnostics.sampler import invariants

    fits: list[bm.Fit] = []

    def fit() -> None:
        chosen: dict[str, Any] = {"adaptation": adaptation, "target_accept": target}
        quick: dict[str, Any] = {"log_likelihood": False, "relabel": "none", "progressbar": False}
        with catch_warnings():
            simplefilter("ignore", bm.ConvergenceWarning)
            fits.append(bm.fit(case.spec, case.table, random_seed=seed, **chosen, **quick))

    taken = seconds(fit)
    stats = fits[0].idata["sample_stats"].to_dataset()
    posterior = fits[0].idata["posterior"].to_dataset()
    unlabelled = invariants(fits[0].spec, posterior, fits[0].design)
    return Run(
        taken,
        min(float(v.min()) for v in azs.ess(unlabelled).data_vars.values()),
        float(stats["n_steps"].mean()),
        int(stats["diverging"].sum()),
        max(float(v.max()) for v in azs.rhat(unlabelled).data_vars.values()),
    )


def settings(rounds: int) -> list[Section]:
    listed, skipped = posteriors()
    figures: dict[str, Callable[[list[Run]], object]] = {
        "least ESS": lambda runs: round(median(r.ess for r in runs)),
        "gradients a draw": lambda runs: median(r.steps for r in runs),
        "ESS per 1000 gradients": lambda runs: median(r.ess / 4 / r.steps for r in runs),
        "ESS/s": lambda runs: round(median(r.ess / r.seconds for r in runs)),
        "divergent": lambda runs: sum(r.divergent for r in runs),
        "worst R-hat": lambda runs: f"{max(r.rhat for r in runs):.3f}",
    }
    rows: list[Row] = []
    for case in listed:
        run(case, "diag", 0.9, 0)
        for adaptation, target in SETTINGS:
            runs = [run(case, adaptation, target, seed) for seed in SEEDS[: max(1, rounds)]]
            name = {"what": case.what, "mass matrix": f"{adaptation}, {target}"}
            rows.append(name | {key: of(runs) for key, of in figures.items()})
    text = (
        "Four chains of 1000 tuning steps and draws by nutpie; medians over seeds, sums of "
        "divergent draws. ESS is the least bulk ESS of quantities that labels cannot change; "
        "seconds are those of the whole call, without log likelihood and labels."
    )
    return [Section("NUTS: settings", "\n\n".join([text, *skipped]), rows)]
