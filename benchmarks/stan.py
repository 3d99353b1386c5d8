"""Stan through R's rstan, in a separate process; see stan.R and mixture.stan."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.linalg import helmert

from benchmarks.cases import Case
from benchmarks.handwritten import Standardised

HERE = Path(__file__).parent
FLAGS = "CXX14FLAGS = -O3 -w\n"  # with -march=native, rstan 2.21 crashes

VERSION = (
    'if (suppressMessages(requireNamespace("rstan", quietly = TRUE))) '
    'cat(as.character(packageVersion("rstan")))'
)


@cache
def version() -> str:
    """Version of rstan; empty without it."""
    if shutil.which("Rscript") is None:
        return ""
    command = ["Rscript", "--no-init-file", "-e", VERSION]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def reason(said: str) -> str:
    """First line of R's output that contains an error."""
    lines = said.splitlines()
    return next((line.strip() for line in lines if line.startswith("Error")), "no word why")


def run(
    case: Case, draws: int, tune: int, chains: int, random_seed: int, cores: int
) -> tuple[float, float, dict[str, np.ndarray]]:
    """Seconds of compiling, seconds of sampling, and draws (chain, draw, ...)."""
    data, k = Standardised.of(case), case.experts
    n, terms = data.features.shape
    task = {"n": n, "p": terms, "k": k, "draws": draws, "tune": tune, "chains": chains}
    task |= {"cores": cores, "seed": random_seed}
    with TemporaryDirectory() as name:
        folder = Path(name)
        lines = [f"{key}: {value}\n" for key, value in task.items()]
        (folder / "task.dcf").write_text("".join(lines), encoding="utf-8")
        (folder / "Makevars").write_text(FLAGS, encoding="utf-8")
        data.features.tofile(folder / "features.bin")
        data.response.tofile(folder / "y.bin")
        helmert(k).tofile(folder / "contrasts.bin")
        command = ["Rscript", "--no-init-file", str(HERE / "stan.R"), str(folder)]
        command.append(str(HERE / "mixture.stan"))
        environment = os.environ | {"R_MAKEVARS_USER": str(folder / "Makevars")}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        compiling, sampling = map(float, (folder / "seconds.txt").read_text().split())
        values = np.fromfile(folder / "draws.bin").reshape(-1, chains, draws)
    values = np.moveaxis(values, 0, -1)  # (chain, draw, value)
    gate, mu, sigma = np.split(values, [k * terms, 2 * k * terms], axis=-1)
    shape = (chains, draws, terms, k)
    columns = {
        name: np.swapaxes(v.reshape(shape), -1, -2) for name, v in (("gate", gate), ("mu", mu))
    }
    return compiling, sampling, columns | {"sigma": sigma}
