"""Problems that several programs fit: a table, formulas that Python and R both read, a start."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import bayes_moe as bm
from bayes_moe.core.registry import TABLE
from benchmarks.timing import ROOT

SHARED = Path(os.environ.get("BAYES_MOE_REFERENCE", ROOT.parent / "shared" / "reference"))
"""Folder of tables that do not ship with the package."""
REFERENCE, UCI = SHARED / "data", SHARED / "uci"


@dataclass(frozen=True)
class Case:
    """A mixture of experts to fit; ``start`` holds a label in 0 .. experts - 1 for every row."""

    what: str
    table: pd.DataFrame
    formula: str
    gate: str
    experts: int
    family: str = "normal"
    start: NDArray[np.int64] | None = None  # (obs,)

    @property
    def spec(self) -> bm.MixtureOfExperts:
        return bm.mixture_of_experts(
            self.formula, gate=self.gate, experts=self.experts, family=self.family
        )

    @property
    def response(self) -> NDArray[np.float64]:
        return self.table[self.formula.split("~")[0].strip()].to_numpy(float)

    @property
    def features(self) -> NDArray[np.float64]:
        """Columns of the experts' formula (obs, feature), which must be a plain sum of columns."""
        names = [name.strip() for name in self.formula.split("~")[1].split("+")]
        return self.table[names].to_numpy(float)

    @property
    def spread(self) -> float:
        """Standard deviation of the response."""
        return float(self.response.std(ddof=1))

    @property
    def responsibilities(self) -> NDArray[np.float64] | None:
        """The start as 0 and 1: (obs, expert)."""
        return None if self.start is None else np.eye(self.experts)[self.start]


def simulated(n: int, p: int = 10, k: int = 4, seed: int = 0, family: str = "normal") -> Case:
    """Standard normal features in gate and experts; 70 % of the starting labels are the true ones.

    The other labels are uniform over the experts. The coefficients depend on the seed alone.
    Counts have the rate ``exp(mean / 4)``; any other response is normal.
    """
    rng = np.random.default_rng(seed)
    gate, beta = rng.normal(size=(p + 1, k)), rng.normal(size=(p + 1, k))
    sigma = rng.uniform(0.5, 1.5, k)
    table = pd.DataFrame(rng.normal(size=(n, p)), columns=[f"x{j}" for j in range(p)])
    features = np.column_stack([np.ones(n), table])
    expert = (features @ gate + rng.gumbel(size=(n, k))).argmax(axis=1)
    mean = (features @ beta)[np.arange(n), expert]
    counts = family == "poisson"
    table["y"] = rng.poisson(np.exp(mean / 4)) if counts else rng.normal(mean, sigma[expert])
    start = np.where(rng.random(n) < 0.7, expert, rng.integers(k, size=n))
    right = "~ " + " + ".join(f"x{j}" for j in range(p))
    return Case(f"n = {n:,}", table, f"y {right}", right, k, family, start)


# data, formula, gate, experts, family
SMALL = [
    ("tone", "tuned ~ stretchratio", "~ stretchratio", 2, "normal"),
    ("tone", "tuned ~ stretchratio", "~ 1", 2, "normal"),
    ("ethanol", "Equivalence ~ NO", "~ NO", 2, "normal"),
    ("ethanol", "Equivalence ~ NO", "~ 1", 2, "normal"),
    ("ethanol", "Equivalence ~ NO", "~ NO", 3, "normal"),
    ("mcycle", "accel ~ times", "~ times", 2, "normal"),
    ("NPreg", "yn ~ x", "~ x", 2, "normal"),
    ("NPreg", "yn ~ x + I(x**2)", "~ 1", 2, "normal"),
    ("NPreg", "yn ~ x + I(x**2)", "~ x", 2, "normal"),
    ("NPreg", "yn ~ x + I(x**2)", "~ x", 3, "normal"),
    ("NPreg", "yn ~ x + I(x**2)", "~ x + I(x**2)", 2, "normal"),
    ("NPreg", "yp ~ x", "~ 1", 2, "poisson"),
    ("patent", "Patents ~ lgRD", "~ 1", 3, "poisson"),
    ("patent", "Patents ~ lgRD", "~ RDS", 3, "poisson"),
    ("geyser", "waiting ~ duration", "~ 1", 2, "gamma"),
    ("geyser", "waiting ~ duration", "~ duration", 2, "gamma"),
    ("articles", "articles ~ mentor", "~ mentor", 2, "negativebinomial"),
]
SHIPPED = ("tone", "geyser", "articles")
"""Tables of ``SMALL`` that ship with the package."""


def shipped(name: str) -> pd.DataFrame:
    """Return the numeric columns of a table that ships with the package."""
    table: pd.DataFrame = bm.load_dataset(name)
    return table.select_dtypes("number")


def tone_case() -> Case:
    right = "~ stretchratio"
    return Case("tone", shipped("tone"), f"tuned {right}", right, 2)


def reference(name: str) -> Callable[[], pd.DataFrame]:
    return lambda: pd.read_csv(REFERENCE / f"{name}.csv").select_dtypes("number")


def small() -> tuple[list[Case], list[str]]:
    """Small cases whose tables are installed, and a note on each other one."""
    cases, skipped = [], []
    for data, formula, gate, experts, family in SMALL:
        what = f"{data}, K = {experts}, `{formula}`, gate `{gate}`"
        if family != "normal":
            what += f", {family}"
        if data not in SHIPPED and not REFERENCE.is_dir():
            skipped.append(f"{what}: skipped, the reference tables are not here")
        elif family not in TABLE["family"]:
            skipped.append(f"{what}: skipped, no family {family!r}")
        else:
            table = shipped(data) if data in SHIPPED else reference(data)()
            cases.append(Case(what, table, formula, gate, experts, family))
    return cases, skipped


def uci(name: str, experts: int, *, train: bool) -> Case:
    """All features in gate and experts; all rows, or those that train in the first split."""
    table = pd.read_csv(UCI / f"{name}.csv")
    right = "~ " + " + ".join(column for column in table if column != "y")
    if train:
        test = json.loads((UCI / f"{name}_splits.json").read_text())["test_rows"]["0"]
        table = table.drop(index=test).reset_index(drop=True)
    return Case(f"{name}, n = {len(table)}, K = {experts}", table, f"y {right}", right, experts)


def _of_reference(name: str, formula: str, gate: str, experts: int, family: str) -> Case:
    table = reference(name)()
    what = f"{name}, n = {len(table)}, K = {experts}"
    return Case(what, table, formula, gate, experts, family)


TABLES: dict[str, Callable[[], Case]] = {
    "energy": partial(uci, "energy", 3, train=False),
    "concrete": partial(uci, "concrete", 4, train=False),
    "yacht": partial(uci, "yacht", 4, train=False),
    "energy, training rows": partial(uci, "energy", 3, train=True),
    "concrete, training rows": partial(uci, "concrete", 4, train=True),
    "yacht, training rows": partial(uci, "yacht", 4, train=True),
    "ethanol": partial(_of_reference, "ethanol", "Equivalence ~ NO", "~ NO", 3, "normal"),
    "patent": partial(_of_reference, "patent", "Patents ~ lgRD", "~ RDS", 4, "poisson"),
}
"""Problems with several modes, by names that a worker is told."""


def trained() -> list[str]:
    """Names of the tables of training rows, if they are here."""
    return [name for name in TABLES if name.endswith("training rows") and UCI.is_dir()]


def searched() -> list[str]:
    """Names of all tables, if they are here."""
    return [*TABLES] if UCI.is_dir() else []
