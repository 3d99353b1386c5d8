"""Text: features of texts, words that move experts, language models and word alignment.

Public names are imported on first use; the stub ``__init__.pyi`` lists them with their modules.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
