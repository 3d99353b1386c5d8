"""Classes of a response, by family: which labels a description may list, and how a table is read.

A description without labels gets those of the table that it is fitted to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bayes_moe.core import registry
from bayes_moe.core.errors import SpecError, listed
from bayes_moe.data.class_labels import ANY, TWO, Levels, ResponseRule, check_levels
from bayes_moe.families import Family


def families_of_classes() -> dict[str, str]:
    """Registered families whose response is a class, with the number of classes that they take."""
    table = registry.TABLE["family"]
    every = {name: registry.resolve("family", name).takes_levels for name in table}
    return {name: takes for name, takes in every.items() if takes is not None}


def checked_levels(family: Family, levels: Iterable[Any] | None) -> Levels | None:
    """Labels of the classes that a user lists for a family; None without any.

    Raises
    ------
    SpecError
        For labels that cannot be, for more than two under a family of two, and for any under a
        family whose response is no class.
    """
    if levels is None:
        return None
    takes, plain = family.takes_levels, check_levels(levels)
    others = families_of_classes()
    if takes is None:
        raise SpecError(
            f"`levels` are labels of classes, and the response of family {family.kind!r} is a "
            f"number. Families of classes: {listed(others, len(others))}."
        )
    if takes == TWO and len(plain) > 2:
        several = [f"family={name!r}" for name, count in others.items() if count == ANY]
        instead = f" Use {' or '.join(several)} for more." if several else ""
        raise SpecError(
            f"Family {family.kind!r} needs two classes; `levels` has {len(plain)}: {listed(plain)}."
            f"{instead}"
        )
    return plain


def response_rule(response: str, members: Iterable[Family], given: Levels | None) -> ResponseRule:
    """Rule by which a response of experts of some families is read: that of the strictest."""
    strictness = (None, TWO, ANY)
    distinct = list(dict.fromkeys(members))
    first = min(distinct, key=lambda family: strictness.index(family.takes_levels))
    return ResponseRule(
        response,
        takes=first.takes_levels,
        ordered=any(family.ordered for family in distinct),
        given=given,
        family=first.kind,
        families=families_of_classes,
    )
