"""Named errors and warnings, and the one way of saying "unknown name, did you mean ...?"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec

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


def nearest(name: object, valid: Iterable[str]) -> str:
    """Offer the valid name that is most like ``name``: ``" Did you mean ...?"``, or nothing."""
    folded = {v.casefold(): v for v in valid}
    given = str(name).casefold()
    near = difflib.get_close_matches(given, folded, n=1, cutoff=0.5)
    near = near or [v for v in folded if given and v.startswith(given)]
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


def unknown(kind: str, name: object, valid: Iterable[str]) -> str:
    """Say that ``name`` is no ``kind``, offer the nearest valid name, and list the others."""
    names = sorted(str(v) for v in valid)
    listed = ", ".join(repr(n) for n in names[:20]) + (", ..." if len(names) > 20 else "")
    return f"Unknown {kind} {name!r}.{nearest(name, names)} Valid: {listed or '(none)'}."


def need(package: str, extra: str) -> None:
    """Raise :class:`ImportError`, with the line that installs it, if a package is not here."""
    if find_spec(package) is None:
        raise ImportError(f"This needs {package}: pip install 'bayes_moe[{extra}]'.")
