"""Bayesian mixtures of experts as PyMC generative models.

The names below are imported on first use, so that ``import bayes_moe`` costs almost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayes_moe import gates as gates
    from bayes_moe import predictors as predictors
    from bayes_moe.core.errors import ConvergenceWarning as ConvergenceWarning
    from bayes_moe.core.errors import DataError as DataError
    from bayes_moe.core.errors import FitFileError as FitFileError
    from bayes_moe.core.errors import MissingRowsWarning as MissingRowsWarning
    from bayes_moe.core.errors import SpecError as SpecError
    from bayes_moe.data.datasets import load_dataset as load_dataset
    from bayes_moe.diagnostics.information import information as information
    from bayes_moe.diagnostics.information import modes as modes
    from bayes_moe.diagnostics.verdict import Diagnosis as Diagnosis
    from bayes_moe.diagnostics.verdict import diagnose as diagnose
    from bayes_moe.diagnostics.verdict import effective_experts as effective_experts
    from bayes_moe.diagnostics.verdict import experts_in_use as experts_in_use
    from bayes_moe.diagnostics.verdict import summary as summary
    from bayes_moe.diagnostics.verdict import usage as usage
    from bayes_moe.fitting import fit as fit
    from bayes_moe.fitting import load as load
    from bayes_moe.fitting import refit as refit
    from bayes_moe.fitting import relabel as relabel
    from bayes_moe.fitting import save as save
    from bayes_moe.graph.build import Graph as Graph
    from bayes_moe.graph.build import build as build
    from bayes_moe.model.blocks import Expert as Expert
    from bayes_moe.model.recipes import hierarchical_mixture as hierarchical_mixture
    from bayes_moe.model.recipes import mixture_density as mixture_density
    from bayes_moe.model.recipes import mixture_of_experts as mixture_of_experts
    from bayes_moe.model.spec import MixtureOfExperts as MixtureOfExperts
    from bayes_moe.plots.curves import plot_experts as plot_experts
    from bayes_moe.plots.curves import plot_gate as plot_gate
    from bayes_moe.plots.curves import plot_predictive as plot_predictive
    from bayes_moe.plots.tree_figure import plot_tree as plot_tree
    from bayes_moe.plots.tree_outline import tree_text as tree_text
    from bayes_moe.prediction.branch_probabilities import node_probabilities as node_probabilities
    from bayes_moe.prediction.branch_probabilities import (
        node_responsibilities as node_responsibilities,
    )
    from bayes_moe.prediction.predictive import Predictive as Predictive
    from bayes_moe.prediction.predictive import log_density as log_density
    from bayes_moe.prediction.predictive import predict as predict
    from bayes_moe.prediction.predictive import responsibilities as responsibilities
    from bayes_moe.priors.prior import Prior as Prior
    from bayes_moe.results.fit import Fit as Fit
    from bayes_moe.simulation import simulate as simulate

__version__ = "0.1.0"

FACE: dict[str, tuple[str, ...]] = {
    "data.datasets": ("load_dataset",),
    "model.recipes": ("hierarchical_mixture", "mixture_density", "mixture_of_experts"),
    "model.spec": ("MixtureOfExperts",),
    "model.blocks": ("Expert",),
    "priors.prior": ("Prior",),
    "graph.build": ("Graph", "build"),
    "results.fit": ("Fit",),
    "fitting": ("fit", "load", "refit", "relabel", "save"),
    "simulation": ("simulate",),
    "prediction.predictive": ("Predictive", "log_density", "predict", "responsibilities"),
    "diagnostics.information": ("information", "modes"),
    "diagnostics.verdict": (
        "Diagnosis",
        "diagnose",
        "effective_experts",
        "experts_in_use",
        "summary",
        "usage",
    ),
    "prediction.branch_probabilities": ("node_probabilities", "node_responsibilities"),
    "plots.tree_outline": ("tree_text",),
    "plots.curves": ("plot_experts", "plot_gate", "plot_predictive"),
    "plots.tree_figure": ("plot_tree",),
    "core.errors": (
        "ConvergenceWarning",
        "DataError",
        "FitFileError",
        "MissingRowsWarning",
        "SpecError",
    ),
}

_HOME = {name: module for module, public in FACE.items() for name in public}

FOLDERS = ("gates", "predictors")
"""Modules of classes that are composed by hand."""

__all__ = sorted([*_HOME, *FOLDERS])


def __getattr__(name: str) -> Any:
    if name in FOLDERS:
        return importlib.import_module(f"bayes_moe.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'bayes_moe' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bayes_moe.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
