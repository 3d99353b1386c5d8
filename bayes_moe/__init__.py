"""Bayesian mixtures of experts as PyMC generative models.

The names below are imported on first use, so that ``import bayes_moe`` costs almost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayes_moe import gates as gates
    from bayes_moe import predictors as predictors
    from bayes_moe.datasets import load_dataset as load_dataset
    from bayes_moe.diagnosis import Diagnosis as Diagnosis
    from bayes_moe.diagnosis import diagnose as diagnose
    from bayes_moe.diagnosis import effective_experts as effective_experts
    from bayes_moe.diagnosis import experts_in_use as experts_in_use
    from bayes_moe.diagnosis import summary as summary
    from bayes_moe.diagnosis import usage as usage
    from bayes_moe.errors import ConvergenceWarning as ConvergenceWarning
    from bayes_moe.errors import DataError as DataError
    from bayes_moe.errors import FitFileError as FitFileError
    from bayes_moe.errors import MissingRowsWarning as MissingRowsWarning
    from bayes_moe.errors import SpecError as SpecError
    from bayes_moe.estimates import information as information
    from bayes_moe.estimates import modes as modes
    from bayes_moe.experts import Expert as Expert
    from bayes_moe.fitting import Fit as Fit
    from bayes_moe.fitting import fit as fit
    from bayes_moe.fitting import load as load
    from bayes_moe.fitting import refit as refit
    from bayes_moe.fitting import relabel as relabel
    from bayes_moe.fitting import save as save
    from bayes_moe.graph import Graph as Graph
    from bayes_moe.graph import build as build
    from bayes_moe.nodes import node_probabilities as node_probabilities
    from bayes_moe.nodes import node_responsibilities as node_responsibilities
    from bayes_moe.outlines import tree_text as tree_text
    from bayes_moe.plots import plot_experts as plot_experts
    from bayes_moe.plots import plot_gate as plot_gate
    from bayes_moe.plots import plot_predictive as plot_predictive
    from bayes_moe.predictive import Predictive as Predictive
    from bayes_moe.predictive import log_density as log_density
    from bayes_moe.predictive import predict as predict
    from bayes_moe.predictive import responsibilities as responsibilities
    from bayes_moe.priors import Prior as Prior
    from bayes_moe.recipes import hierarchical_mixture as hierarchical_mixture
    from bayes_moe.recipes import mixture_density as mixture_density
    from bayes_moe.recipes import mixture_of_experts as mixture_of_experts
    from bayes_moe.simulation import simulate as simulate
    from bayes_moe.spec import MixtureOfExperts as MixtureOfExperts
    from bayes_moe.trees import plot_tree as plot_tree

__version__ = "0.1.0"

FACE: dict[str, tuple[str, ...]] = {
    "datasets": ("load_dataset",),
    "recipes": ("hierarchical_mixture", "mixture_density", "mixture_of_experts"),
    "spec": ("MixtureOfExperts",),
    "experts": ("Expert",),
    "priors": ("Prior",),
    "graph": ("Graph", "build"),
    "fitting": ("Fit", "fit", "load", "refit", "relabel", "save"),
    "simulation": ("simulate",),
    "predictive": ("Predictive", "log_density", "predict", "responsibilities"),
    "estimates": ("information", "modes"),
    "diagnosis": (
        "Diagnosis",
        "diagnose",
        "effective_experts",
        "experts_in_use",
        "summary",
        "usage",
    ),
    "nodes": ("node_probabilities", "node_responsibilities"),
    "outlines": ("tree_text",),
    "plots": ("plot_experts", "plot_gate", "plot_predictive"),
    "trees": ("plot_tree",),
    "errors": (
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
