# The public names of `bm.text`, each stated once: `__init__.py` loads from this file.
