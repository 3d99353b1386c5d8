"""The package face: lazy, complete, and cheap."""

import subprocess
import sys

import pytest

import bayes_moe as bm
from bayes_moe.core import registry


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_import_brings_nothing_heavy():
    heavy = run(
        "import bayes_moe, sys; "
        "print([m for m in ('pymc', 'pytensor', 'numba', 'arviz', 'pandas', 'xarray', 'scipy') "
        "if m in sys.modules])"
    )
    assert heavy == "[]"


def test_describing_predicting_and_loading_never_import_pymc():
    used = run(
        "import sys, bayes_moe as bm; s = bm.mixture_of_experts('tuned ~ stretchratio'); "
        "s.design(bm.load_dataset('tone')); bm.predict; bm.load; bm.diagnose; "
        "print([m for m in ('pymc', 'pytensor', 'nutpie') if m in sys.modules])"
    )
    assert used == "[]"


def test_functions_win_over_modules():
    """No module has a face name: importing one would replace the function."""
    names = run(
        "import bayes_moe, pkgutil; "
        "print(sorted({m.name for m in pkgutil.iter_modules(bayes_moe.__path__)} "
        "& set(bayes_moe.__all__)))"
    )
    assert names == "['families', 'gates', 'predictors', 'text']"


@pytest.mark.parametrize("name", bm.__all__)
def test_every_name_is_there_and_documented(name):
    value = getattr(bm, name)
    assert value.__doc__
    assert name in dir(bm)


def test_unknown_names_raise():
    with pytest.raises(AttributeError, match="bayes_moe attribute fitt"):
        bm.fitt  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, rows in registry.TABLE.items() for name in rows]
)
def test_registered_names_resolve(kind, name):
    assert registry.resolve(kind, name).__doc__
