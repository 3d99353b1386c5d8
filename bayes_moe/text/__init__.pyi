# The public names of `bm.text`, each stated once: `__init__.py` loads from this file.

from .alignment_figure import plot_alignment as plot_alignment
from .alignment_scores import alignment_error_rate as alignment_error_rate
from .alignment_scores import alignment_scores as alignment_scores
from .alignment_scores import symmetrised as symmetrised
from .fitted_alignment import Alignment as Alignment
from .fitted_alignment import load_alignment as load_alignment
from .word_alignment import alignment as alignment
