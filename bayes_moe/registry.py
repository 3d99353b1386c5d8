"""One literal table kind -> name -> class.

The table holds dotted paths, not classes: every storey can resolve a name without importing
the storeys above it, nothing heavy is imported until it is used, and the contract tests and
the docs inventory run over the same rows.
"""

from __future__ import annotations

import importlib
from typing import Any

from bayes_moe.errors import SpecError, unknown

TABLE: dict[str, dict[str, str]] = {
    "family": {
        "normal": "bayes_moe.families:Normal",
        "studentt": "bayes_moe.families:StudentT",
    },
    "predictor": {
        "linear": "bayes_moe.predictors.linear:Linear",
    },
    "gate": {
        "softmax": "bayes_moe.gates.softmax:Softmax",
    },
    "method": {
        "nuts": "bayes_moe.inference.nuts:NUTS",
    },
}


def resolve(kind: str, name: str) -> Any:
    """Return the class registered as ``name`` under ``kind``.

    Raises
    ------
    SpecError
        If no such name is registered; the message offers the nearest one.
    """
    entries = TABLE[kind]
    if not isinstance(name, str) or name not in entries:
        raise SpecError(unknown(kind, name, entries))
    module, attribute = entries[name].split(":")
    return getattr(importlib.import_module(module), attribute)
