"""Named errors and warnings, and the one way of saying "unknown name, did you mean ...?"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ConvergenceWarning", "DataError", "FitFileError", "MissingRowsWarning", "SpecError"]


class SpecError(ValueError):
    """A model description that cannot be built: unknown family, prior, gate or argument."""


class DataError(ValueError):
    """A table that cannot be used: missing values, unknown columns, degenerate designs."""


class FitFileError(OSError):
    """A file that is not a saved fit, or is a damaged one."""


class ConvergenceWarning(UserWarning):
    """The draws of a fit are not yet to be trusted; the message says which and what to do."""


class MissingRowsWarning(UserWarning):
    """Rows with missing values were left out on request; the message counts them."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> str:
    """Say that ``name`` is no ``kind``, offer the nearest valid name, and list the others."""
    names = sorted(str(v) for v in valid)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(repr(n) for n in names[:20]) + (", ..." if len(names) > 20 else "")
    return f"Unknown {kind} {name!r}.{hint} Valid: {listed or '(none)'}."
