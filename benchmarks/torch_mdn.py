"""A mixture density network as a PyTorch user writes one, in a separate process.

``<python with torch> benchmarks/torch_mdn.py <folder>`` reads ``task.npz``, fits some networks to
every table in it and writes ``answer.npz``; it imports nothing of this repository.
"""

import copy
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

HELD_OUT, PATIENCE, EPOCHS = 0.1, 50, 2000
RATE, FALL, WAIT = 0.01, 0.3, 15
"""Adam's learning rate, and its fall after so many epochs in which nothing was gained."""
LEAST_BATCH, MOST_BATCH, STEPS = 32, 256, 20
"""Bounds of the number of rows in a batch, and steps in an epoch within these bounds."""
HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


class Network(nn.Module):
    """Network of tanh layers, with a linear layer to all parameters of the mixture."""

    def __init__(self, features: int, hidden: list[int], components: int) -> None:
        super().__init__()
        sizes = [features, *hidden]
        layers: list[nn.Module] = []
        for inputs, units in pairwise(sizes):
            layers += [nn.Linear(inputs, units), nn.Tanh()]
        self.body = nn.Sequential(*layers, nn.Linear(sizes[-1], 3 * components))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log density of each row."""
        logits, mu, log_sigma = self.body(x).chunk(3, dim=1)  # (row, component)
        z = (y[:, None] - mu) * torch.exp(-log_sigma)
        terms = torch.log_softmax(logits, 1) - log_sigma - 0.5 * z**2 - HALF_LOG_2PI
        return torch.logsumexp(terms, 1)


def fit(x: torch.Tensor, y: torch.Tensor, hidden: list[int], components: int, seed: int) -> Network:
    """Adam with early stopping: the network of the best epoch."""
    torch.manual_seed(seed)
    order = torch.randperm(len(x))
    held, rows = order.split([round(HELD_OUT * len(x)), len(x) - round(HELD_OUT * len(x))])
    batch = min(max(len(rows) // STEPS, LEAST_BATCH), MOST_BATCH)
    network = Network(x.shape[1], hidden, components)
    adam = torch.optim.Adam(network.parameters(), lr=RATE)
    falling = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, "max", FALL, WAIT)
    best, waited, kept = -np.inf, 0, copy.deepcopy(network.state_dict())
    for _ in range(EPOCHS):
        for some in rows[torch.randperm(len(rows))].split(batch):
            adam.zero_grad()
            (-network(x[some], y[some]).mean()).backward()
            adam.step()
        with torch.no_grad():
            density = float(network(x[held], y[held]).mean())
        falling.step(density)
        waited += 1
        if density > best:
            best, waited, kept = density, 0, copy.deepcopy(network.state_dict())
        if waited >= PATIENCE:
            break
    network.load_state_dict(kept)
    return network


def standardised(values: np.ndarray, like: np.ndarray) -> torch.Tensor:
    return torch.tensor((values - like.mean(axis=0)) / like.std(axis=0), dtype=torch.float32)


def answer(task: dict[str, np.ndarray], j: int) -> dict[str, np.ndarray]:
    """Log densities (network, row) of new rows of table ``j``, and seconds of each fit."""
    x, y, x_new, y_new = (task[f"{name}{j}"] for name in ("x", "y", "x_new", "y_new"))
    hidden, components = task["hidden"].tolist(), int(task["components"])
    densities, seconds = [], []
    for seed in range(int(task["networks"])):
        began = time.perf_counter()
        network = fit(standardised(x, x), standardised(y, y), hidden, components, seed)
        seconds.append(time.perf_counter() - began)
        with torch.no_grad():
            density = network(standardised(x_new, x), standardised(y_new, y)).numpy()
        densities.append(density - np.log(y.std()))
    return {f"density{j}": np.array(densities), f"seconds{j}": np.array(seconds)}


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with np.load(folder / "task.npz") as file:
        task = dict(file)
    answers: dict[str, np.ndarray] = {}
    for j in range(int(task["tables"])):
        answers |= answer(task, j)
    np.savez(folder / "answer.npz", **answers)


if __name__ == "__main__":
    main()
