"""Value and gradient of a GRU over a series in PyTorch, in a separate process.

``<python with torch> benchmarks/torch_gru.py <folder>`` reads ``task.npz`` and writes
``answer.npz``; it imports nothing of this repository. ``threads`` of 0 are PyTorch's default.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch


def main(folder: Path) -> None:
    """Sum of weighed states, its gradient by PyTorch's weights, and seconds of each run.

    Seconds are (run, 2): of the clock, and of all processors.
    """
    torch.set_default_dtype(torch.float64)
    task = np.load(folder / "task.npz")
    if int(task["threads"]):
        torch.set_num_threads(int(task["threads"]))
    x, slopes = torch.tensor(task["x"]), torch.tensor(task["slopes"])
    cell = str(task["cell"])
    net = {"gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](x.shape[1], slopes.shape[1])
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.copy_(torch.tensor(task[name]))
    seconds = []
    for _ in range(int(task["runs"])):
        net.zero_grad()
        start, work = time.perf_counter(), time.process_time()
        states = net(x)[0]
        (states * slopes).sum().backward()
        seconds.append((time.perf_counter() - start, time.process_time() - work))
    found = {name: weight.grad.numpy() for name, weight in net.named_parameters()}
    np.savez(folder / "answer.npz", seconds=seconds, version=torch.__version__, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
