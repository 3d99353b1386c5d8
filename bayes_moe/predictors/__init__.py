"""Predictors: features of a row -> eta, one small class each.

A predictor is described by its constructor's arguments, builds its random variables inside a
PyMC model (:meth:`Predictor.build`), and evaluates posterior draws on new rows in NumPy
(:meth:`Predictor.evaluate`); both call the same formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bayes_moe.core import registry
from bayes_moe.core.errors import SpecError
from bayes_moe.core.records import from_settings
from bayes_moe.predictors.bart import BART
from bayes_moe.predictors.base import Predictor
from bayes_moe.predictors.fourier import Fourier
from bayes_moe.predictors.hsgp import HSGP
from bayes_moe.predictors.linear import Linear
from bayes_moe.predictors.neural import MLP
from bayes_moe.predictors.recurrent import Recurrent
from bayes_moe.predictors.shrinkage import R2D2, Horseshoe, NormalGamma, Shrinkage
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.soft_tree import SoftTree
from bayes_moe.predictors.spline import Spline

__all__ = [
    "BART",
    "HSGP",
    "MLP",
    "R2D2",
    "Binding",
    "Fourier",
    "Horseshoe",
    "Linear",
    "NormalGamma",
    "Predictor",
    "Recurrent",
    "Shrinkage",
    "Site",
    "SoftTree",
    "Spline",
    "made",
]


def made(described: Predictor | str | Mapping[str, Any] | None) -> Predictor:
    """Return the predictor of a name or a description, or itself; None is linear.

    Raises
    ------
    SpecError
        For an unknown name, and for what is no predictor.
    """
    if described is None:
        return Linear()
    if isinstance(described, Predictor):
        return described
    if isinstance(described, Mapping):
        settings = dict(described)
        if "kind" not in settings:
            raise SpecError(f"A description of a predictor needs its `kind`; it is {described!r}.")
        cls = registry.resolve("predictor", settings.pop("kind"))
        predictor: Predictor = from_settings(cls, settings)
        return predictor
    if not isinstance(described, str):
        raise SpecError(f"`predictor` must be a Predictor or its name; it is {described!r}.")
    named: Predictor = registry.resolve("predictor", described)()
    return named
