"""Gradient of recurrent cells over one series, beside PyTorch's on the same numbers.

``python benchmarks/recurrent.py <python with torch>`` prints milliseconds (median of the runs) and
the largest relative difference of the gradients. Threads are the defaults of both.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bayes_moe.kernels.recurrent import GATES, slopes_of, states_of

PEER = Path(__file__).with_name("torch_gru.py")
ROWS, UNITS, FEATURES, RUNS = 5000, 8, 2, 5


def task(cell: str) -> dict[str, np.ndarray]:
    """Features, derivatives by the states, and weights under PyTorch's names."""
    rng = np.random.default_rng(1)
    wide = GATES[cell] * UNITS
    return {
        "x": rng.normal(size=(ROWS, FEATURES)),
        "slopes": rng.normal(size=(ROWS, UNITS)),
        "weight_ih_l0": rng.normal(size=(wide, FEATURES)) / FEATURES**0.5,
        "weight_hh_l0": rng.normal(size=(wide, UNITS)) / UNITS**0.5,
        "bias_ih_l0": rng.normal(size=wide),
        "bias_hh_l0": np.zeros(wide),
    }


def ours(cell: str, given: dict[str, np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Gradient by the recurrent weights, and seconds of each run."""
    z = np.column_stack([np.ones(ROWS), given["x"]])
    previous, shape = np.arange(ROWS) - 1, (1, GATES[cell], UNITS, -1)
    inputs = np.column_stack([given["bias_ih_l0"], given["weight_ih_l0"]]).reshape(shape)
    recurrent = given["weight_hh_l0"].reshape(shape)
    rest = (recurrent, np.zeros((1, UNITS))) if cell == "gru" else (recurrent,)
    seconds, found = [], np.empty(0)
    for _ in range(RUNS):
        start = time.perf_counter()
        states, kept = states_of(cell, z, previous, inputs, *rest)
        (states * given["slopes"]).sum()
        slopes = given["slopes"][None]
        found = slopes_of(cell, (z, previous), recurrent, states, kept, slopes)[1]
        seconds.append(time.perf_counter() - start)
    return found.reshape(given["weight_hh_l0"].shape), seconds


def main(python: str) -> None:
    """Print a line for each cell."""
    for cell in ("gru", "rnn"):
        given = task(cell)
        found, seconds = ours(cell, given)
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder) / "task.npz", cell=cell, runs=RUNS, **given)
            subprocess.run([python, PEER, folder], check=True)
            answer = np.load(Path(folder) / "answer.npz")
            expected, theirs = answer["weight_hh_l0"], answer["seconds"]
            version = answer["version"]
        gap = np.abs(found - expected).max() / np.abs(expected).max()
        print(
            f"{cell}, {ROWS} rows, {UNITS} units: {1e3 * np.median(seconds):.1f} ms, "
            f"PyTorch {version} {1e3 * np.median(theirs):.1f} ms; difference {gap:.1e}"
        )


if __name__ == "__main__":
    main(sys.argv[1])
