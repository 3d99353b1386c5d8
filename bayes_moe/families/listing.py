"""The registered families as a table: names, parameters with links, settings, and what they are."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import Any

from bayes_moe.core import registry
from bayes_moe.families.base import Family


def markdown() -> str:
    """Table of all registered families in Markdown, as the page on families has it."""
    lines = ["| `family` | what it is | parameters (link) | settings |", "|---|---|---|---|"]
    for name in registry.TABLE["family"]:
        kind = registry.resolve("family", name)
        described = (
            (inspect.getdoc(kind) or "").splitlines()[0].replace("|", r"\|").replace("``", "`")
        )
        lines.append(f"| `{name}` | {described} | {_parameters(kind)} | {_settings(kind)} |")
    return "\n".join(lines) + "\n"


def _parameters(kind: type[Family]) -> str:
    family: Any = kind()
    shown = [f"`{p.name}` ({p.link.name})" for p in family.parameters]
    return ", ".join([*shown, *(f"{k} known" for k in family.known_counts)]) or "none"


def _settings(kind: type[Family]) -> str:
    shown = []
    for f in fields(kind):
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        shown.append(f"`{f.name}={default!s}`")
    return ", ".join(shown)
