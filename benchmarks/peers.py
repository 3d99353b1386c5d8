"""R packages as peers: called in a separate process if installed."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from formulaic import model_matrix
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import norm

from benchmarks.cases import Case

PEERS = ("flexmix", "mixtools")
TOLERANCE = 1e-8  # of flexmix: relative change of the log likelihood
ITERATIONS = 10_000

VERSIONS = """
cat("R", paste(R.version$major, R.version$minor, sep = "."), "\\n")
for (peer in commandArgs(trailingOnly = TRUE))
  if (suppressMessages(requireNamespace(peer, quietly = TRUE)))
    cat(peer, as.character(packageVersion(peer)), "\\n")
"""


@cache
def versions() -> dict[str, str]:
    """Versions of R and of those peers that load; empty without R."""
    if shutil.which("Rscript") is None:
        return {}
    command = ["Rscript", "--no-init-file", "-e", VERSIONS, *PEERS]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.split() for line in said.splitlines())


@dataclass(frozen=True)
class Answer:
    """Final figures of a peer; NaN where no start gave a fit."""

    seconds: float
    log_likelihood: float = np.nan  # as the peer prints it
    ml_log_likelihood: float = np.nan  # at its coefficients, with maximum-likelihood sigma
    narrowest: float = np.nan  # smallest sigma over the response's standard deviation
    iterations: int = 0
    ended: int = 0  # starts that gave a fit


@contextmanager
def waiting(
    case: Case, package: str, starts: int = 1, seed: int = 1
) -> Iterator[Callable[[], Answer]]:
    """Function that runs ``package`` on ``case``, whose table is written here, once."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        task = {
            "package": package,
            "formula": case.formula,
            "gate": case.gate,
            "experts": case.experts,
            "family": case.family,
            "rows": len(case.table),
            "columns": " ".join(case.table.columns),
            "starts": starts,
            "iterations": ITERATIONS,
            "tolerance": TOLERANCE,
            "seed": seed,
        }
        lines = [f"{key}: {value}\n" for key, value in task.items()]
        (folder / "task.dcf").write_text("".join(lines), encoding="utf-8")
        case.table.to_numpy(float).T.tofile(folder / "table.bin")
        if case.start is not None:
            (case.start + 1).astype(np.int32).tofile(folder / "labels.bin")
        yield lambda: run(case, folder)


def run(case: Case, folder: Path) -> Answer:
    script = Path(__file__).with_name("peers.R")
    command = ["Rscript", "--no-init-file", str(script), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    said = (folder / "answer.txt").read_text(encoding="utf-8").splitlines()
    figures = {name: np.array(numbers, float) for name, *numbers in map(str.split, said)}
    seconds = float(figures["seconds"][0])
    if "log_likelihood" not in figures:
        return Answer(seconds)
    return Answer(
        seconds,
        float(figures["log_likelihood"][0]),
        ml_log_likelihood(case, figures),
        figures["sigma"].min() / case.spread if case.family == "normal" else np.nan,
        int(figures["iterations"][0]),
        int(figures["ended"][0]),
    )


def ml_log_likelihood(case: Case, figures: dict[str, NDArray[np.float64]]) -> float:
    """Log likelihood at the peer's coefficients, in NumPy, after one M-step for sigma.

    flexmix divides by the residual degrees of freedom, so its log likelihood is below the maximum.
    """
    if case.family != "normal":
        return float(figures["log_likelihood"][0])
    response, right = case.formula.split("~")
    gate, mu = (figures[name].reshape(case.experts, -1) for name in ("gate", "mu"))
    features, gate_features = (
        np.asarray(model_matrix(formula, case.table)) for formula in (right, case.gate)
    )
    residual = case.table[response.strip()].to_numpy()[:, None] - features @ mu.T  # (obs, expert)
    log_weights = log_softmax(gate_features @ gate.T, axis=1)
    responsibility = softmax(log_weights + norm.logpdf(residual, 0, figures["sigma"]), axis=1)
    variance = (responsibility * residual**2).sum(axis=0) / responsibility.sum(axis=0)
    terms = log_weights + norm.logpdf(residual, 0, np.sqrt(variance))
    return float(logsumexp(terms, axis=1).sum())
