"""Response distributions: parameters, log density and derivatives, moments, cdf and draws.

``bayes_moe.core.registry.TABLE["family"]`` lists them.
"""

from __future__ import annotations

from bayes_moe.core import registry
from bayes_moe.families.base import Derivatives, Family, Parameter, Parameters
from bayes_moe.families.links import Link

__all__ = ["Derivatives", "Family", "Link", "Parameter", "Parameters", "by_name"]


def by_name(name: str) -> Family:
    """Family registered as ``name``: one shared instance, since families have no state."""
    family: Family = registry.shared("family", name)
    return family
