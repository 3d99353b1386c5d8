# The public names of `bm.text`, each stated once: `__init__.py` loads from this file.

from .fitted_language import Estimate as Estimate
from .fitted_language import FittedLanguageModel as FittedLanguageModel
from .ngram_model import LanguageModel as LanguageModel
from .ngram_model import language_model as language_model
from .smoothing import Ngram as Ngram
from .stored_language import load as load
from .stored_language import save as save

__all__ = [
    "Estimate",
    "FittedLanguageModel",
    "LanguageModel",
    "Ngram",
    "language_model",
    "load",
    "save",
]
