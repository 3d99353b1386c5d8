# The public names of `bm.text`, each stated once: `__init__.py` loads from this file.

from .example_rows import example_rows as example_rows
from .top_terms import top_terms as top_terms

__all__ = ["example_rows", "top_terms"]
