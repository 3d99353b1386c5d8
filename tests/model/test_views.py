"""How descriptions, fits and diagnoses are shown: by their repr, and in notebooks."""

import warnings

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe import gates, predictors
from bayes_moe.gates import Attention, Softmax, StickBreaking, Tree
from tests.support.examples import GATES
from tests.support.fits import fake_fit
from tests.support.html_reader import view

HOSTILE = "`<b>x</b> & y`"
NAMESPACE = {n: getattr(bm, n) for n in ("MixtureOfExperts", "Expert", "Prior")}
NAMESPACE |= {n: getattr(gates, n) for n in gates.__all__}
NAMESPACE |= {n: getattr(predictors, n) for n in predictors.__all__}


@pytest.mark.parametrize("name", GATES)
def test_gates_print_as_calls(name):
    spec = bm.mixture_of_experts("y ~ x + z", gate=GATES[name], experts=4)
    assert eval(repr(spec), NAMESPACE) == spec
    assert eval(repr(GATES[name]), NAMESPACE) == GATES[name]
    assert "formula=None" not in repr(GATES[name])
    assert "  # formula" not in repr(spec)


@pytest.mark.parametrize(
    ("gate", "comment"),
    [
        (None, "gate=Softmax(),  # formula: ~ x + log(z)\n"),
        (Softmax(temperature=2.0), "gate=Softmax(temperature=2.0),  # formula: ~ x + log(z)\n"),
        (StickBreaking(), "gate=StickBreaking(),  # formula: ~ x + log(z)\n"),
        (Attention(), "gate=Attention(),  # formula: ~ x + log(z)\n"),
        (Attention(heads=2), "gate=Attention(heads=2),  # formula: ~ x + log(z)\n"),
        (Tree([0, [1, 2]]), "gate=Tree([0, [1, 2]]),  # formula: ~ x + log(z)\n"),
        (Softmax("~ x"), "gate=Softmax('~ x'),\n"),
    ],
)
def test_a_gate_without_formula_is_shown_with_the_experts(gate, comment):
    spec = bm.mixture_of_experts("y ~ x + log(z)", gate=gate, experts=3)
    assert comment in repr(spec)
    assert "None" not in repr(spec)
    assert eval(repr(spec), NAMESPACE) == spec
    shown = view(spec)
    assert shown.texts[shown.texts.index("gate") + 1] == spec.formulas["gate"]


def test_one_expert_has_no_gate_to_explain():
    assert "#" not in repr(bm.mixture_of_experts("y ~ x", experts=1))


def test_a_description_is_shown_whole():
    spec = bm.MixtureOfExperts(
        Softmax("~ z"),
        [
            bm.Expert(f"y ~ {HOSTILE}", name="line", sigma="~ z"),
            bm.Expert("y ~ x", "studentt", name="curve", predictor="spline"),
            bm.Expert(f"y ~ {HOSTILE}", name="line2", sigma="~ z"),
        ],
        {"curve_nu": bm.Prior("Gamma", alpha=2, beta=0.1)},
        center=False,
    )
    shown = view(spec)
    for text in (
        "Mixture of 3 experts for y",
        "Gate: Softmax('~ z')",
        "line, line2",
        f"y ~ {HOSTILE}",
        "sigma='~ z'",
        "studentt",
        repr(spec.priors["curve_nu"]),
        "Intercept priors refer to features of zero.",
    ):
        assert text in shown.texts
    default = next(t for t in shown.texts if "curve_sigma" in t)
    assert {*default.split(", ")} == {*spec.variables} - {"curve_nu"}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 80)
    y = np.abs(x) + 0.3 * rng.standard_normal(80)
    return pd.DataFrame({"x": x, "y": y, "<b>x</b> & y": rng.normal(size=80)})


@pytest.mark.parametrize("method", ["em", "laplace", "draws"])
def test_fits_and_diagnoses_are_shown(table, method):
    spec = bm.mixture_of_experts(f"y ~ x + {HOSTILE}", gate="~ x", experts=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = bm.fit(spec, table, "em" if method == "draws" else method, random_seed=7)
    if method == "draws":
        mode = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
        fit = fake_fit(spec, table, {name: mode[name].values for name in spec.variables})
    shown = view(fit)
    assert shown.texts[0] == repr(fit).splitlines()[0]
    assert "Mixture of 2 experts for y" in shown.texts
    for name in spec.variables:
        dims = [d for d in fit.idata["posterior"][name].dims if d not in ("chain", "draw")]
        cell = shown.texts[shown.texts.index(name) + 1]
        assert [part.split(":")[0] for part in cell.split(", ")] == dims
    diagnosis = bm.diagnose(fit)
    shown = view(diagnosis)
    assert shown.texts[0] == ("All checks pass" if diagnosis.ok else "Not yet to be trusted")
    assert [t for t in shown.texts if t in diagnosis.problems] == [*diagnosis.problems]
    for share in diagnosis.usage["mean"]:
        assert f"{share:.3f}" in shown.texts
    for name, value in diagnosis.table["value"].items():
        assert shown.texts[shown.texts.index(name) + 1] == str(value)


@pytest.mark.parametrize("problems", [(), ("Label <i>1</i> & more.", "Two. Use method='nuts'.")])
def test_a_diagnosis_begins_with_its_verdict(problems):
    verdict = "Fine. Share of the rows: expert 0 100%."
    if problems:
        verdict = "Not yet to be trusted:\n- " + "\n- ".join(problems) + "\nShare of the rows."
    diagnosis = bm.Diagnosis(
        ok=not problems,
        verdict=verdict,
        problems=problems,
        table=pd.DataFrame({"value": pd.Series({"a <b>": "1"}, dtype=object)}),
        usage=pd.DataFrame({"mean": [1.0]}, index=pd.Index([0], name="expert")),
    )
    shown = view(diagnosis)
    last = "Share of the rows." if problems else verdict
    title = "Not yet to be trusted" if problems else "All checks pass"
    assert shown.texts[: 2 + len(problems)] == [title, *problems, last]
    assert "a <b>" in shown.texts
