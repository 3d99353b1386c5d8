"""What every inference method can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from bayes_moe.errors import SpecError, unknown
from bayes_moe.graph import Graph

if TYPE_CHECKING:
    import xarray as xr


class Method(ABC):
    """Settings of an inference method; running it gives draws in standard groups."""

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Make the record from keyword arguments, naming the nearest one for a wrong name."""
        valid = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        for name in settings:
            if name not in valid:
                raise SpecError(unknown(f"setting of {cls.__name__}", name, valid))
        return cls(**settings)

    @abstractmethod
    def run(self, graph: Graph, random_seed: int | None) -> xr.DataTree:
        """Return groups ``posterior`` and ``sample_stats``."""
