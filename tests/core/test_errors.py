"""What the package raises is caught by the standard names, and unknown names meet their nearest."""

import pickle

import pytest

import bayes_moe as bm
from bayes_moe.core import errors
from bayes_moe.core.errors import nearest, unknown


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("SpecError", ValueError),
        ("DataError", ValueError),
        ("FitFileError", OSError),
        ("ConvergenceWarning", UserWarning),
        ("MissingRowsWarning", UserWarning),
    ],
)
def test_errors_are_on_the_face_and_are_standard_ones(name, parent):
    raised = getattr(bm, name)
    assert raised is getattr(errors, name)
    assert issubclass(raised, parent)
    assert raised.__doc__
    again = pickle.loads(pickle.dumps(raised("what")))
    assert (type(again), str(again)) == (raised, "what")


@pytest.mark.parametrize(
    ("name", "valid", "hint"),
    [
        ("stretchratoi", ["tuned", "stretchratio"], "stretchratio"),
        ("ID", ["id", "x"], "id"),
        ("id", ["ID", "x"], "ID"),
        ("Größe", ["größe", "grüße"], "größe"),
        ("my_col", ["my col", "y"], "my col"),
        (["normal"], ["normal"], "normal"),
        ("mu", ["gate_coef", "mu_coef", "sigma"], "mu_coef"),
        ("", ["a"], None),
        ("zzz", ["a", "b"], None),
        (None, ["a"], None),
        ("x", [], None),
    ],
)
def test_the_nearest_name_is_offered(name, valid, hint):
    assert nearest(name, valid) == ("" if hint is None else f" Did you mean {hint!r}?")
    message = unknown("column", name, valid)
    assert message.startswith(f"Unknown column {name!r}.")
    assert all(repr(v) in message for v in valid)


def test_long_lists_are_cut_and_empty_ones_said():
    message = unknown("column", "q", [f"c{j:03}" for j in range(1000)])
    assert message.endswith("'c039', ....")
    assert "c040" not in message
    assert unknown("column", "q", []).endswith("Valid: (none).")
