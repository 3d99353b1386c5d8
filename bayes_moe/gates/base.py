"""Interface of gates: what a kind of gate states, and its structure for some experts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

from bayes_moe.gates.structure import GateStructure


class Gate(ABC):
    """Features of a row -> log weights (expert, obs) whose exponentials sum to one.

    A gate is a description without data and without a number of experts; :meth:`structure` is the
    same gate for so many experts, with all that models, EM and samplers read.
    """

    kind: ClassVar[str]
    """Name in the registry."""

    def __repr__(self) -> str:
        settings = fields(self)  # type: ignore[arg-type]
        shown = [(f.name, getattr(self, f.name)) for f in settings]
        given = [(n, v) for (n, v), f in zip(shown, settings, strict=True) if v != f.default]
        return f"{type(self).__name__}({', '.join(_argument(n, v) for n, v in given)})"

    @property
    @abstractmethod
    def formulas(self) -> Mapping[str, str | None]:
        """Formulas by stem; None means the experts' right-hand side."""

    @abstractmethod
    def structure(self, n_experts: int) -> GateStructure:
        """Heads, splits and symmetry of the gate for a number of experts.

        Raises
        ------
        SpecError
            If the gate cannot serve so many experts.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description; its ``kind`` is the name in the registry."""

    def reordered(self, order: tuple[int, ...]) -> Gate:
        """The gate for experts in another order: expert ``order[k]`` becomes expert ``k``."""
        return self


def _argument(name: str, value: Any) -> str:
    """Argument in a call, the formula by its position."""
    return repr(value) if name == "formula" else f"{name}={value!r}"
