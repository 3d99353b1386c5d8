# The public names of `bm.text`, each stated once: `__init__.py` loads from this file.

from .alignment_figure import plot_alignment as plot_alignment
from .alignment_scores import alignment_error_rate as alignment_error_rate
from .alignment_scores import alignment_scores as alignment_scores
from .alignment_scores import symmetrised as symmetrised
from .example_rows import example_rows as example_rows
from .feature_matrix import TextFeatures as TextFeatures
from .feature_matrix import features as features
from .fitted_alignment import Alignment as Alignment
from .fitted_language import Estimate as Estimate
from .fitted_language import FittedLanguageModel as FittedLanguageModel
from .ngram_model import LanguageModel as LanguageModel
from .ngram_model import language_model as language_model
from .smoothing import Ngram as Ngram
from .storage import load as load
from .storage import save as save
from .top_terms import top_terms as top_terms
from .word_alignment import alignment as alignment
