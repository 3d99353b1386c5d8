"""Predictors: features of a row -> eta, one small class each.

A predictor is described by its constructor's arguments, builds its random variables inside a
PyMC model (:meth:`Predictor.build`), and evaluates posterior draws on new rows in NumPy
(:meth:`Predictor.evaluate`); both call the same formula.
"""

from __future__ import annotations

from bayes_moe.predictors.base import Predictor
from bayes_moe.predictors.linear import Linear

__all__ = ["Linear", "Predictor"]
