"""Interface of the samplers: chains from starting points, with the mode at which each started."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import cpu_count
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.sampling.chain_starts import Starts

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Tuning:
    """Number of tuning draws, target acceptance statistic, and mass matrix.

    By default as many draws as a sampler needs to find the scales of all coordinates, small steps,
    and the sampler's default mass matrix.
    """

    tune: int = 1000
    target_accept: float = 0.9
    adaptation: str | None = None


@dataclass(frozen=True)
class SamplingTask:
    """Starting points and settings of chains.

    ``starts`` have the model and its data; the settings are those of
    :class:`bayes_moe.inference.nuts.NUTS`.
    """

    starts: Starts
    random_seed: int
    draws: int
    tune: int
    chains: int
    cores: int | None
    target_accept: float
    adaptation: str
    progressbar: bool

    @property
    def parallel(self) -> int:
        """Number of chains that run at the same time."""
        return min(self.chains, self.cores or cpu_count() or 1)


class Engine(ABC):
    """An implementation of the No-U-Turn sampler."""

    def tuning(self, starts: Starts) -> Tuning:
        """Settings of a posterior where none are given."""
        return Tuning()

    @abstractmethod
    def run(self, task: SamplingTask) -> xr.DataTree:
        """Groups ``posterior`` and ``sample_stats``; interrupted chains are filled with NaN.

        ``sample_stats`` has the mode at which each chain started.
        """


class StartPoints:
    """Starting points for a sampler that calls for them by seed, in no defined order of chains.

    ``point`` maps reported variables to the sampler's flat vector.
    """

    def __init__(
        self, starts: Starts, point: Callable[[dict[str, np.ndarray]], np.ndarray]
    ) -> None:
        self.starts = starts
        self.point = point
        self.drawn: list[tuple[int, np.ndarray]] = []

    def __call__(self, seed: int) -> np.ndarray:
        mode, values = self.starts.draw(np.random.default_rng(seed))
        flat = self._flat({name: v[None] for name, v in values.items()})[0]
        self.drawn.append((mode, flat))
        return self.point(values)

    def modes(self, first: Mapping[str, np.ndarray]) -> np.ndarray:
        """Mode (chain,) at which each chain started, by its first draw (chain, ...).

        The nearest of the starting points is the chain's, or one at the same mode.
        """
        points = np.array([point for _, point in self.drawn])
        # Also for a single point, or a variable that is the same at all points.
        scale = points.std(axis=0) + 1e-12 * np.abs(points).max(axis=0) + 1e-300
        distance = (((self._flat(first)[:, None] - points) / scale) ** 2).sum(axis=-1)
        nearest = np.nan_to_num(distance, nan=np.inf).argmin(axis=1)
        return np.array([self.drawn[j][0] for j in nearest])

    def _flat(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Reported variables of several points as a matrix (point, value)."""
        reported = (values[name] for name in self.starts.spec.variables)
        return np.concatenate([v.reshape(len(v), -1) for v in reported], axis=1)


def sampler_groups(posterior: xr.Dataset, stats: xr.Dataset, modes: np.ndarray) -> xr.DataTree:
    """Groups of an engine, with the mode at which each chain started."""
    import xarray as xr

    started = (names.CHAIN, modes[: stats.sizes[names.CHAIN]])
    return xr.DataTree.from_dict(
        {
            names.POSTERIOR: posterior,
            names.SAMPLE_STATS: stats.assign({names.START_MODE: started}),
        }
    )


def sample_nutpie(compiled: Any, task: SamplingTask, **more: Any) -> Any:
    """Result of nutpie on a compiled model, from the starting points of that model."""
    import nutpie

    return nutpie.sample(
        compiled,
        draws=task.draws,
        tune=task.tune,
        chains=task.chains,
        cores=task.cores,
        seed=task.random_seed,
        target_accept=task.target_accept,
        adaptation=task.adaptation,
        save_warmup=True,
        progress_bar=task.progressbar,
        **more,
    )
