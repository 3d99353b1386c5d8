"""Name and settings of a family, as a description and as an argument, and its support."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Described:
    """A family by its name in the registry and its settings, which are its fields."""

    kind: ClassVar[str]
    """Name in the registry."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that differ from their defaults, by name."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != f.default
        }

    def to_dict(self) -> str | dict[str, Any]:
        """Return a JSON-ready description: the name, or name and settings."""
        settings = self.settings
        if not settings:
            return self.kind
        plain = {k: v.to_dict() if isinstance(v, Described) else v for k, v in settings.items()}
        return {"kind": self.kind, **plain}

    def __str__(self) -> str:
        """Name, or the call that makes it."""
        return repr(self) if self.settings else self.kind


class Support:
    """Which responses a family can have; subclasses state what differs."""

    support: ClassVar[str] = "numbers"
    """Valid responses, in words, for error messages."""

    stands_alone: ClassVar[bool] = False
    """Whether a model may consist of experts of it alone although it has no parameters."""

    @property
    def known_counts(self) -> tuple[str, ...]:
        """Names of the known counts of each row."""
        return ()

    @property
    def discrete(self) -> bool:
        """Whether responses have probabilities, not densities."""
        return False

    @property
    def lower(self) -> float:
        """Lower end of the support."""
        return -math.inf

    @property
    def upper(self) -> float:
        """Upper end of the support."""
        return math.inf

    @property
    def atoms(self) -> tuple[float, ...]:
        """Responses of positive probability of a family that is not discrete."""
        return ()

    @property
    def has_density(self) -> bool:
        """Whether the family has a density, beside atoms if any."""
        return not self.discrete and self.lower < self.upper


class Responses:
    """How many responses a family has; those of several are :mod:`bayes_moe.families.several`.

    Arrays ``y`` of several responses are (response, obs), and moments and draws (..., response,
    expert, obs).
    """

    takes_responses: ClassVar[bool] = False
    """Whether there are several responses, whose names are a field ``responses``."""
    alone: ClassVar[str] = ""
    """Of a family of several responses: the one for a single response in its place."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of several responses; none of a family of one."""
        return ()

    @property
    def more_data(self) -> int:
        """Number of functions of the responses that the formula reads, beyond two."""
        return 0

    @property
    def coupled(self) -> tuple[range, ...]:
        """Groups of slots whose weighted least squares are solved together."""
        return ()


def quoted(family: Described) -> str:
    """Return a family as an argument: its name in quotes, or the call that makes it."""
    return repr(family) if family.settings else repr(family.kind)
