"""Response distributions: parameters, log density and derivatives, moments, cdf and draws.

``bayes_moe.core.registry.TABLE["family"]`` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from bayes_moe.core import registry
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.class_labels import Levels
from bayes_moe.data.responses import response_names, response_parts
from bayes_moe.families.base import Derivatives, Family, Parameter, Parameters, RowData, quoted
from bayes_moe.families.links import Link

__all__ = [
    "Derivatives",
    "Family",
    "Link",
    "Parameter",
    "Parameters",
    "RowData",
    "by_name",
    "made",
    "quoted",
]

LEVELS = "levels"
"""Field of a family that depends on the labels of classes."""
RESPONSES = "responses"
"""Field of a family of several responses: their names."""
FAMILY = "family"
"""Field of a family that depends on another one."""
WITH_ZEROS = {
    "zero_inflated_": "zeroinflated",
    "zeroinflated_": "zeroinflated",
    "hurdle_": "hurdle",
}
"""Families with zeros by the beginning of a name that goes on with the name of another one."""


def by_name(name: str, **settings: Any) -> Family:
    """Family registered as ``name``, with settings such as a link.

    Names such as ``"zero_inflated_poisson"`` and ``"hurdle_gamma"`` are those of a family beside
    zeros; settings are of that family.

    Raises
    ------
    SpecError
        For an unknown name or setting.
    """
    outer, inner = _of_family(name)
    if inner:
        return by_name(outer, family=by_name(inner, **settings))
    kind = registry.resolve("family", name)
    given = {key: _frozen(key, value) for key, value in settings.items()}
    valid = [f.name for f in fields(kind)]
    for key in given:
        if key not in valid:
            raise SpecError(unknown(f"setting of family {name!r}", key, valid))
    return _made(kind, tuple(sorted(given.items())))


def with_levels(family: Family, levels: Levels) -> Family:
    """Family of a response whose classes have these labels, in the order of their codes."""
    if LEVELS not in {f.name for f in fields(family)}:
        return family
    return by_name(family.kind, **family.settings | {LEVELS: levels})


def with_responses(family: Family, response: str) -> Family:
    """Family of the responses of a formula's left-hand side, such as ``"cbind(y1, y2)"``.

    Raises
    ------
    SpecError
        For several responses of a family of one, and the reverse.
    """
    several = len(response_parts(response)) > 1
    if several == family.takes_responses:
        if not several:
            return family
        return by_name(family.kind, **family.settings | {RESPONSES: response_names(response)})
    others = [n for n in registry.TABLE["family"] if registry.resolve("family", n).takes_responses]
    if several:
        raise SpecError(
            f"Family {quoted(family)} has one response, and {response!r} has several: use family "
            f"{' or '.join(map(repr, others))}."
        )
    raise SpecError(
        f"Family {family.kind!r} has several responses: write them as cbind(y1, y2); the formula "
        f"has {response!r}. For one response use {family.alone!r}."
    )


def made(family: Any) -> Family:
    """Family of a name, of a description (``kind`` and settings), or itself.

    Raises
    ------
    SpecError
        For what is none of these.
    """
    if isinstance(family, Family):
        return family
    if isinstance(family, type) and issubclass(family, Family):
        raise SpecError(f"Give a family, not its class: bm.families.{family.__name__}().")
    if isinstance(family, Mapping) and isinstance(family.get("kind"), str):
        settings = {key: value for key, value in family.items() if key != "kind"}
        return by_name(family["kind"], **settings)
    return by_name(family)


def _of_family(name: Any) -> tuple[str, str]:
    """Names of a family with zeros and of that beside them, of ``"hurdle_gamma"``, else empty."""
    for prefix, outer in WITH_ZEROS.items():
        if isinstance(name, str) and name.startswith(prefix):
            inner = name.removeprefix(prefix)
            return outer, inner if registry.has("family", inner) else inner.replace("_", "")
    return "", ""


def _frozen(key: str, value: Any) -> Any:
    """A setting as families hold it: sequences as tuples, names and descriptions as families."""
    if isinstance(value, Mapping) or key == FAMILY:
        return made(value)
    return tuple(value) if isinstance(value, list) else value


@cache
def _made(kind: type[Family], settings: tuple[tuple[str, Any], ...]) -> Family:
    """One instance for all equal settings, so that its derivatives are found once."""
    return kind(**dict(settings))


def __getattr__(name: str) -> Any:
    """Class of a registered family, such as ``Normal``, imported when it is first used."""
    for path in registry.TABLE["family"].values():
        if path.endswith(f":{name}"):
            return registry.resolve_path(path)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    classes = (path.split(":")[1] for path in registry.TABLE["family"].values())
    return sorted({*globals(), *classes})
