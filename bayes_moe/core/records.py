"""Frozen records whose equality, hash, JSON and pickle derive from one dictionary."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any, Self

import numpy as np

from bayes_moe.core.errors import SpecError, unknown


def plain(value: Any) -> Any:
    """Copy of nested mappings and sequences with NumPy's numbers as Python's, for JSON."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def check_names(
    what: str, record: Any, needed: Iterable[str], optional: Iterable[str] = ()
) -> None:
    """Raise :class:`SpecError` unless a mapping has all needed names, and only valid ones."""
    if not isinstance(record, Mapping):
        raise SpecError(f"{what} must be a mapping; it is {record!r:.100}.")
    required = list(needed)
    valid = [*required, *optional]
    for name in record:
        if name not in valid:
            raise SpecError(f"{what}: {unknown('name', name, valid)}")
    for name in required:
        if name not in record:
            raise SpecError(f"{what} has no {name!r}.")


def from_settings(cls: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """Value of a class made from a mapping of its constructor's arguments.

    Raises
    ------
    SpecError
        For a name that is no argument.
    """
    valid = [name for name in signature(cls).parameters if name != "self"]
    check_names(f"The description of {cls.__name__}", settings, (), valid)
    return cls(**settings)


class Record(ABC):
    """An immutable value that is equal to another of its class if their dictionaries are.

    For descriptions whose constructor takes free keyword arguments or checks many things;
    simple records are dataclasses.
    """

    __slots__ = ("_hash",)

    _hash: int

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Invert :meth:`to_dict`; a ``kind``, which names the class, is no argument of it."""
        return cls(**{name: value for name, value in record.items() if name != "kind"})

    def to_json(self) -> str:
        """Return the description as JSON."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Invert :meth:`to_json`.

        Raises
        ------
        SpecError
            If the text does not describe such a record.
        """
        try:
            return cls.from_dict(json.loads(text))
        except SpecError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SpecError(
                f"The text is no description of a {cls.__name__} "
                f"({type(error).__name__}: {error}): {text!r:.100}"
            ) from error

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if hasattr(self, "_hash"):
            object.__delattr__(self, "_hash")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; write a new one.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; write a new one.")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        # Caches are keyed by records, and writing the JSON at every look-up would dominate them.
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(self.to_json()))
            return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)
