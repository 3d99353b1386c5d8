"""The formula language is closed: what is not listed is refused, by name, and never evaluated."""

import os
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from formulaic.errors import FormulaicError

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from bayes_moe.data import formula_functions, formula_values
from bayes_moe.data.formula_language import parse_expression
from bayes_moe.data.formulas import FittedFormula, own_functions, parse_formula
from tests.support.hostile_formulas import PLACES, TERMS
from tests.support.source import ROOT


def test_the_table_is_long_enough():
    assert len(TERMS) >= 60


@pytest.mark.parametrize("term", TERMS, ids=lambda t: ascii(t)[1:40])
def test_hostile_terms_are_refused_by_name_when_a_formula_is_read(term):
    began = time.perf_counter()
    with pytest.raises(SpecError, match=TERMS[term]):
        parse_formula(f"~ {term}")
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("place", PLACES)
def test_hostile_terms_are_refused_wherever_a_description_has_a_formula(place):
    describe = PLACES[place]
    describe("I(k)")
    for term in TERMS:
        with pytest.raises(SpecError):
            describe(term)
    with pytest.raises(SpecError, match=r"'np.save'. Did you mean"):
        describe("np.save('pwned', x)")


AUDIT = """
import os, sys
import numpy as np
import bayes_moe as bm
from bayes_moe.data.design import Design
from tests.support.hostile_formulas import GOOD, PLACES, TABLE, TERMS

def evaluate():
    for term in GOOD:
        Design.from_data(None, {"mu": f"~ 0 + {term}"}, TABLE)

def describe():
    for place in PLACES.values():
        for term in TERMS:
            try:
                place(term)
            except ValueError as error:
                assert type(error).__name__ == "SpecError", (term, error)
            else:
                raise AssertionError(term)

evaluate()
describe()
seen = set()
HARMLESS = ("object.__getattr__", "sys._getframe", "compile", "builtins.id", "gc.", "marshal.")
armed = [True]

def watch(event, arguments):
    if armed[0] and not event.startswith(HARMLESS):
        seen.add((event, str(arguments)[:200]))

before = dict(os.environ)
sys.addaudithook(watch)
from bayes_moe.data.formulas import _parse
from bayes_moe.data.formula_language import parse_expression
_parse.cache_clear(), parse_expression.cache_clear()
evaluate()
describe()
armed[0] = False
assert dict(os.environ) == before
print(sorted(seen))
"""


def test_formulas_touch_no_file_process_network_or_environment(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", AUDIT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_an_expression_reaches_formulaics_evaluator(monkeypatch):
    """formulaic evaluates parts of a left-hand side while it parses; it must not see them."""
    from formulaic.parser.types import Token

    kinds = []
    original = Token.required_variables.fget
    monkeypatch.setattr(
        Token,
        "required_variables",
        property(lambda token: (kinds.append(token.kind.value), original(token))[1]),
    )
    parse_formula("center(surely_unused(x)) ~ log(x) + I(x**2)")
    assert "name" in kinds
    assert "python" not in kinds


def test_a_formula_is_checked_again_before_it_is_evaluated():
    table = pd.DataFrame({"x": np.arange(8.0)})
    fitted, _ = FittedFormula.fit("~ log1p(x)", table, np.arange(8))
    for factor in (f for t in fitted.spec.formula for f in t.factors):
        if factor.expr == "log1p(x)":
            object.__setattr__(factor, "expr", "np.save('pwned', x)")
    with pytest.raises(FormulaicError, match=r"SpecError: Unknown function .*'np\.save'"):
        formula_values.Materializer(table, {}).get_model_matrix(fitted.spec.formula)
    with pytest.raises(SpecError, match=r"'f'.*functions=\{'f'"):
        FittedFormula.fit("~ f(x)", table, np.arange(8))


@pytest.mark.parametrize(
    ("text", "standard", "columns", "own"),
    [
        ("log( x )", "log(x)", ("x",), set()),
        ("I(x**2+z)", "I(x ** 2 + z)", ("x", "z"), set()),
        ("poly(`my col`, 2)", "poly(`my col`, 2)", ("my col",), set()),
        ("exp(`x`)", "exp(x)", ("x",), set()),
        ("log(`for`)", "log(`for`)", ("for",), set()),
        ("Q('a`b')", "Q('a`b')", ("a`b",), set()),
        ("f(`a'b`, `c'd`)", "f(`a'b`, `c'd`)", ("a'b", "c'd"), {"f"}),
        ("I(g == 'a')", "I(g == 'a')", ("g",), set()),
        ("hinge(x, at=-2)", "hinge(x, at=-2)", ("x",), {"hinge"}),
        ("I(_quoted0_ + `a b`)", "I(_quoted0_ + `a b`)", ("_quoted0_", "a b"), set()),
        ("C(g, contr.treatment(base='b'))", None, ("g",), set()),
        ("C(g, {'ab': [1, -1, 0]}, levels=('a', 'b', 'c'))", None, ("g",), set()),
        ("C(g, [[1, 0], [0, 1], [-1, -1]])", None, ("g",), set()),
        ("bs(x, knots=[-np.pi / 2, 0, 1e-3])", None, ("x",), set()),
    ],
)
def test_expressions_are_read(text, standard, columns, own):
    found = parse_expression(text)
    assert found.columns == columns
    assert found.own == own
    assert standard in (None, found.text)
    if text.count("`") % 2 == 0:  # formulaic's tokens want backticks in pairs
        assert own_functions([f"~ {text}"]) == sorted(own)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ x : (1 | g)", "group term.*where none can be"),
        ("~ x + (1 | g + h)", "The group of .* must be a column"),
        ("~ x + (| g)", "Cannot read the group term"),
        ("~ (1 | g) + (1 | g)", "Two group terms"),
        ("y | cens(w) ~ x", "censored\\(y, status=s\\).*weights=.*trials='n'"),
        ("y | trials(n) ~ x", "given as trials='n'"),
        ("~ x | z", "one right-hand side"),
        ("~ as.factor(k)", r"Write C\(k\)"),
        ("~ log(x.y)", "the name of a column in backticks"),
    ],
)
def test_the_syntax_of_other_packages_is_named(formula, message):
    with pytest.raises(SpecError, match=message):
        bm.mixture_of_experts(formula if formula.startswith("y") else f"y {formula}")


@pytest.mark.parametrize("name", [*formula_functions.ELSEWHERE])
def test_functions_of_other_packages_say_what_to_write(name):
    assert not formula_functions.is_reserved(name)
    with pytest.raises(SpecError, match=f"'{name}': .*functions=") as raised:
        bm.mixture_of_experts(f"y ~ {name}(x)")
    assert formula_functions.ELSEWHERE[name] in str(raised.value)


@pytest.mark.parametrize(
    "formula",
    [
        "~ " + " + ".join(f"column_{j:04d}" for j in range(1000)),
        "~ (" + " + ".join(f"v{j}" for j in range(40)) + ")**2",
        "~ a*b*c*d*e*f",
        "~ " + "+".join(["I(" + " + ".join(f"a{j}" for j in range(50)) + ")"] * 3),
    ],
)
def test_large_formulas_that_people_write_are_read(formula):
    began = time.perf_counter()
    assert len(parse_formula(formula)) > 1
    assert time.perf_counter() - began < 5


def test_the_page_lists_every_function():
    page = (ROOT / "docs" / "formulas.md").read_text()
    named = set(re.findall(r"`([\w.]+)[`(]", page))
    listed = set(formula_functions.listed_names())
    assert listed <= named
    assert named - listed <= {"x", "y", "z", "emb", "np.", "np.pi", "np.e", "bm.load"}
