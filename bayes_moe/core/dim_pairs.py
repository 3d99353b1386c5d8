"""Two dimensions of reported variables for one of internal ones: a parameter's numbers by expert.

The predictors of a parameter of several numbers, such as one a class, are (number and expert) along
one dimension, experts last. Its reported variables are (number, expert). Everything that changes
one shape to the other asks :class:`DimPairs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class DimPairs:
    """Pairs of dimensions of reported variables.

    Attributes
    ----------
    labels : mapping of str to mapping of str to sequence
        By internal dimension, the two reported dimensions with the labels along each.
    """

    labels: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.labels)

    @property
    def coords(self) -> dict[str, list[Any]]:
        """Labels along all reported dimensions of pairs."""
        return {dim: list(along) for pair in self.labels.values() for dim, along in pair.items()}

    def dims(self, dims: Sequence[str]) -> tuple[str, ...]:
        """Dimensions of a reported variable whose internal ones are ``dims``."""
        return tuple(d for dim in dims for d in self.labels.get(dim, (dim,)))

    def reported(self, value: Any, dims: Sequence[str]) -> Any:
        """Values (..., reported dims) of an array or tensor (..., internal dims)."""
        return self._reshaped(value, dims, len(dims), self._split)

    def internal(self, value: Any, dims: Sequence[str]) -> Any:
        """Values (..., internal dims) of an array or tensor (..., reported dims)."""
        return self._reshaped(value, dims, len(self.dims(dims)), self._joined)

    def _reshaped(self, value: Any, dims: Sequence[str], axes: int, sizes: Any) -> Any:
        if self.labels.keys().isdisjoint(dims):
            return value
        shape = tuple(value.shape)
        lead = shape[: len(shape) - axes]
        return value.reshape((*lead, *sizes(dims, iter(shape[len(lead) :]))))

    def _split(self, dims: Sequence[str], sizes: Iterator[Any]) -> Iterator[Any]:
        for dim, size in zip(dims, sizes, strict=True):
            yield from map(len, self.labels[dim].values()) if dim in self.labels else (size,)

    def _joined(self, dims: Sequence[str], sizes: Iterator[Any]) -> Iterator[Any]:
        for dim in dims:
            size = next(sizes)
            yield size * next(sizes) if dim in self.labels else size


NO_PAIRS = DimPairs()
"""Of models without such parameters."""
