# The public names of `bm.text`, each stated once: `__init__.py` loads from this file.

from .feature_matrix import TextFeatures as TextFeatures
from .feature_matrix import features as features
