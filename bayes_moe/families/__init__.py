"""Response distributions: parameters, log density, moments, cdf, draws, and what is a bad response.

Each family is a class-level table of parameters plus its formulas.
"""

from __future__ import annotations

from bayes_moe.core import registry
from bayes_moe.families.base import Derivatives, Family, Parameter, Parameters
from bayes_moe.families.links import Link

__all__ = ["Derivatives", "Family", "Link", "Parameter", "Parameters", "by_name"]


def by_name(name: str) -> Family:
    """Return the family registered as ``name``."""
    instance: Family = registry.resolve("family", name)()
    return instance
