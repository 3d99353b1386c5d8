"""Gradient of recurrent cells over one series, beside PyTorch's on the same numbers.

``python benchmarks/recurrent.py <python with torch>`` prints milliseconds of the clock and of all
processors (medians over the runs), and the largest relative difference of the gradients, with one
thread for both, and with the default threads of both. Ours and PyTorch's runs alternate.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bayes_moe.kernels.recurrent import GATES, slopes_of, states_of

PEER = Path(__file__).with_name("torch_gru.py")
ROWS, UNITS, FEATURES, RUNS, ROUNDS = 5000, 8, 2, 3, 3


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


def ours(cell: str, given: dict[str, np.ndarray]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Gradient by the recurrent weights, and seconds (clock, processors) of each run."""
    z = np.column_stack([np.ones(ROWS), given["x"]])
    previous, shape = np.arange(ROWS) - 1, (1, GATES[cell], UNITS, -1)
    inputs = np.column_stack([given["bias_ih_l0"], given["weight_ih_l0"]]).reshape(shape)
    recurrent = given["weight_hh_l0"].reshape(shape)
    rest = (recurrent, np.zeros((1, UNITS))) if cell == "gru" else (recurrent,)
    seconds, found = [], np.empty(0)
    for _ in range(RUNS):
        start, work = time.perf_counter(), time.process_time()
        states, kept = states_of(cell, z, previous, inputs, *rest)
        (states * given["slopes"]).sum()
        slopes = given["slopes"][None]
        found = slopes_of(cell, (z, previous), recurrent, states, kept, slopes)[1]
        seconds.append((time.perf_counter() - start, time.process_time() - work))
    return found.reshape(given["weight_hh_l0"].shape), seconds


def theirs(python: str, cell: str, given: dict[str, np.ndarray], threads: int) -> dict[str, Any]:
    """PyTorch's gradient and seconds, in a process of its own."""
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    env = {n: v for n, v in os.environ.items() if n not in limits}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "task.npz", cell=cell, runs=RUNS, threads=threads, **given)
        subprocess.run([python, PEER, folder], check=True, env=env)
        return dict(np.load(Path(folder) / "answer.npz"))


def main(python: str) -> None:
    """Print a line for each cell and number of threads."""
    for cell in ("gru", "rnn"):
        given = task(cell)
        ours(cell, given)  # loads the compiled function
        for threads in (1, 0):
            own, peer = [], []
            for _ in range(ROUNDS):
                with threadpool_limits(threads or None):
                    found, seconds = ours(cell, given)
                own += seconds
                answer = theirs(python, cell, given, threads)
                peer += answer["seconds"].tolist()
            expected = answer["weight_hh_l0"]
            gap = np.abs(found - expected).max() / np.abs(expected).max()
            (clock, work), (other, others) = (1e3 * np.median(s, axis=0) for s in (own, peer))
            print(
                f"{cell}, {ROWS} rows, {UNITS} units, {threads or 'default'} thread(s): "
                f"{clock:.1f} ms, processors {work:.1f} ms; PyTorch {answer['version']} "
                f"{other:.1f} ms, processors {others:.1f} ms; ratio {clock / other:.4f}, "
                f"{work / others:.4f}; difference {gap:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1])
