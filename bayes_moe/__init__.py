"""Bayesian mixtures of experts as PyMC generative models.

Public names are imported on first use, so that ``import bayes_moe`` costs almost nothing; the stub
``__init__.pyi`` lists them with their modules.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"

__getattr__, _lazy_names, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __dir__() -> list[str]:
    return sorted([*_lazy_names(), "__version__"])
