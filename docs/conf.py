"""Sphinx configuration. Building needs no network."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

_PROJECT = tomllib.loads(
    (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
)["project"]

project = _PROJECT["name"]
author = copyright = "the bayes_moe developers"
release = version = _PROJECT["version"]

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Notebooks are committed executed. BAYES_MOE_DOCS_EXECUTE=1 runs them again.
nb_execution_mode = "force" if os.environ.get("BAYES_MOE_DOCS_EXECUTE") else "off"
os.environ.pop("MPLBACKEND", None)  # the Makefile's Agg would leave notebooks without figures
nb_execution_timeout = 600
nb_execution_raise_on_error = True

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_filename_map = {"bayes_moe.Fit": "bayes_moe.Fit_record"}  # not only in case from `fit`
autodoc_typehints = "none"  # the numpydoc sections say them
numpydoc_show_class_members = False  # the class template lists them

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {version}"
html_theme_options = {"show_toc_level": 2}
