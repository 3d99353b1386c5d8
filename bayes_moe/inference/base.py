"""What every inference method can do."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.design import Design
from bayes_moe.model.spec import MixtureOfExperts

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

    @property
    def settings(self) -> dict[str, Any]:
        """Settings by name, but a ``start``, which belongs to the data."""
        mine = fields(self)  # type: ignore[arg-type]
        return {f.name: getattr(self, f.name) for f in mine if f.name != "start"}

    @property
    def described(self) -> str:
        """Settings as JSON, so that a fit can be repeated."""
        try:
            return json.dumps(self.settings, default=lambda number: number.item())
        except (AttributeError, TypeError, ValueError) as error:
            raise SpecError(
                f"The settings of {type(self).__name__} must be plain values of a dataclass, which "
                f"are stored with the fit: {error}."
            ) from error

    def check(self, spec: MixtureOfExperts) -> None:
        """Raise :class:`SpecError` for a model that the method cannot fit."""
        if not spec.has_gradient:
            raise SpecError(no_gradient(spec, f"method={type(self).__name__.lower()!r}"))

    @abstractmethod
    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        """Return groups ``posterior`` and ``sample_stats``, and others of the method's own."""


def no_gradient(spec: MixtureOfExperts, what: str) -> str:
    """Say that something needs the gradient that a model does not have."""
    place, predictor = next((place, p) for place, p in spec.placed if not p.gradient)
    return (
        f"{what} needs a gradient, and {predictor!r} of {place.stem!r} has none: use method='nuts' "
        "with nuts_sampler='pymc', which is then the default and moves trees in steps of their own."
    )
