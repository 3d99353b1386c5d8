# The public names, each stated once: type checkers read this file, and `__init__.py` loads from it.

from . import families as families
from . import gates as gates
from . import predictors as predictors
from . import text as text
from .core.errors import ConvergenceWarning as ConvergenceWarning
from .core.errors import DataError as DataError
from .core.errors import FitFileError as FitFileError
from .core.errors import MissingRowsWarning as MissingRowsWarning
from .core.errors import SpecError as SpecError
from .data.datasets import load_dataset as load_dataset
from .diagnostics.backtest_table import Backtest as Backtest
from .diagnostics.comparison import compare as compare
from .diagnostics.information import information as information
from .diagnostics.information import modes as modes
from .diagnostics.prior_predictive import PriorPredictive as PriorPredictive
from .diagnostics.prior_predictive import prior_predictive as prior_predictive
from .diagnostics.summary import summary as summary
from .diagnostics.usage import effective_experts as effective_experts
from .diagnostics.usage import experts_in_use as experts_in_use
from .diagnostics.usage import usage as usage
from .diagnostics.verdict import Diagnosis as Diagnosis
from .diagnostics.verdict import diagnose as diagnose
from .fitting import combine as combine
from .fitting import fit as fit
from .fitting import refit as refit
from .fitting import relabel as relabel
from .graph.build import Graph as Graph
from .graph.user_graph import build as build
from .model.expert import Expert as Expert
from .model.recipes import hierarchical_mixture as hierarchical_mixture
from .model.recipes import mixture_density as mixture_density
from .model.recipes import mixture_of_experts as mixture_of_experts
from .model.spec import MixtureOfExperts as MixtureOfExperts
from .plots.backtest_figure import plot_backtest as plot_backtest
from .plots.class_curves import plot_classes as plot_classes
from .plots.class_tables import plot_confusion as plot_confusion
from .plots.class_tables import plot_reliability as plot_reliability
from .plots.component_figure import plot_components as plot_components
from .plots.curves import plot_experts as plot_experts
from .plots.curves import plot_gate as plot_gate
from .plots.curves import plot_predictive as plot_predictive
from .plots.forecast_figure import plot_forecast as plot_forecast
from .plots.outline_text import tree_text as tree_text
from .plots.prior_figure import plot_prior_predictive as plot_prior_predictive
from .plots.state_figure import plot_states as plot_states
from .plots.tree_figure import plot_tree as plot_tree
from .prediction.allocations import allocation as allocation
from .prediction.allocations import coclustering as coclustering
from .prediction.branch_probabilities import node_probabilities as node_probabilities
from .prediction.branch_probabilities import node_responsibilities as node_responsibilities
from .prediction.class_scores import class_scores as class_scores
from .prediction.class_scores import confusion_matrix as confusion_matrix
from .prediction.class_scores import reliability as reliability
from .prediction.extension import extend as extend
from .prediction.forecast import forecast as forecast
from .prediction.forecast_result import Forecast as Forecast
from .prediction.forecast_scores import crps as crps
from .prediction.forecast_scores import crps_normal_mixture as crps_normal_mixture
from .prediction.forecast_scores import mase as mase
from .prediction.forecast_scores import rmsse as rmsse
from .prediction.joint_predictive import JointPredictive as JointPredictive
from .prediction.predict import log_density as log_density
from .prediction.predict import margin as margin
from .prediction.predict import predict as predict
from .prediction.predict import responsibilities as responsibilities
from .prediction.predictive import Predictive as Predictive
from .prediction.residuals import pit as pit
from .prediction.residuals import residuals as residuals
from .prediction.states import state_path as state_path
from .prediction.states import states as states
from .prediction.states import transitions as transitions
from .priors.prior import Prior as Prior
from .results.fit import Fit as Fit
from .results.storage import load as load
from .results.storage import save as save
from .simulation import simulate as simulate
from .validation.backtest import backtest as backtest
from .validation.leave_future_out import LeaveFutureOut as LeaveFutureOut
from .validation.leave_future_out import lfo as lfo

__version__: str
__all__ = [
    "Backtest",
    "ConvergenceWarning",
    "DataError",
    "Diagnosis",
    "Expert",
    "Fit",
    "FitFileError",
    "Forecast",
    "Graph",
    "JointPredictive",
    "LeaveFutureOut",
    "MissingRowsWarning",
    "MixtureOfExperts",
    "Predictive",
    "Prior",
    "PriorPredictive",
    "SpecError",
    "allocation",
    "backtest",
    "build",
    "class_scores",
    "coclustering",
    "combine",
    "compare",
    "confusion_matrix",
    "crps",
    "crps_normal_mixture",
    "diagnose",
    "effective_experts",
    "experts_in_use",
    "extend",
    "families",
    "fit",
    "forecast",
    "gates",
    "hierarchical_mixture",
    "information",
    "lfo",
    "load",
    "load_dataset",
    "log_density",
    "margin",
    "mase",
    "mixture_density",
    "mixture_of_experts",
    "modes",
    "node_probabilities",
    "node_responsibilities",
    "pit",
    "plot_backtest",
    "plot_classes",
    "plot_components",
    "plot_confusion",
    "plot_experts",
    "plot_forecast",
    "plot_gate",
    "plot_predictive",
    "plot_prior_predictive",
    "plot_reliability",
    "plot_states",
    "plot_tree",
    "predict",
    "predictors",
    "prior_predictive",
    "refit",
    "relabel",
    "reliability",
    "residuals",
    "responsibilities",
    "rmsse",
    "save",
    "simulate",
    "state_path",
    "states",
    "summary",
    "transitions",
    "tree_text",
    "usage",
]
