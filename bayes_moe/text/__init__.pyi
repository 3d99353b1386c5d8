# The public names of `bm.text`, each stated once: `__init__.py` loads from this file.

from .feature_matrix import TextFeatures as TextFeatures
from .feature_matrix import features as features
from .fitted_language import Estimate as Estimate
from .fitted_language import FittedLanguageModel as FittedLanguageModel
from .language_model import LanguageModel as LanguageModel
from .language_model import language_model as language_model
from .smoothing import Ngram as Ngram
