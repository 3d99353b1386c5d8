"""What a description says of shared and fixed parameters: names, errors, JSON, symmetry."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.model.spec import MixtureOfExperts
from tests.support.constrained import MODELS, P, plain, table, two_kinds


@pytest.mark.parametrize("name", MODELS)
def test_json_and_equality(name):
    spec = MODELS[name]
    again = MixtureOfExperts.from_json(spec.to_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.structure.symmetry == spec.structure.symmetry
    assert spec != plain(experts=spec.n_experts)


def test_a_description_without_constraints_has_the_record_of_before():
    assert set(plain().to_dict()) == {"gate", "experts", "priors", "center"}


def test_they_are_shown():
    spec = MODELS["everything"]
    for text in (repr(spec), spec._repr_html_()):
        assert "mu_coef[x]" in text
        assert "weights" in text
    assert (
        eval(repr(MODELS["fixed weights"]), vars(bm) | {"Softmax": bm.gates.Softmax})
        == (MODELS["fixed weights"])
    )


HALF = P("HalfNormal", sigma=1)
CLASSES = {"formula": "grade ~ x", "family": "categorical", "levels": tuple("abc")}
WIDE = {"p_coef": P("Normal", sigma=2.0)}
WRONG = [
    ({"shared": ("sigm",)}, "Did you mean 'sigma'"),
    ({"shared": ("mu",)}, "Did you mean 'mu_coef'"),
    ({"shared": (1,)}, "names of variables"),
    ({"shared": ("gate_coef",)}, "no effect"),
    ({"shared": ("sigma[0]",)}, "for all experts"),
    ({"shared": ("mu_coef[x",)}, "closing bracket"),
    ({"shared": ("sigma",), "fixed": {"sigma[1]": 1}}, "in `shared` and in `fixed`"),
    ({"shared": ("sigma",), "priors": {"sigma[1]": HALF}}, "have one prior"),
    ({"shared": ("sigma",), "priors": {"mu_coef": P("Laplace", mu=0, b=1)}}, "kink"),
    ({"fixed": {"sigma[2]": 1}}, "Unknown expert '2'"),
    ({"fixed": {"sigma[]": 1}}, "Unknown expert ''"),
    ({"fixed": {"sigma": 0.0}}, "must be positive"),
    ({"fixed": {"sigma": "a"}}, "no number"),
    ({"fixed": {"sigma": np.nan}}, "must be finite"),
    ({"fixed": {"sigma": (1, 2, 3)}}, "2 numbers, one of each expert"),
    ({"fixed": {"sigma[0]": (1, 2)}}, "takes a number"),
    ({"fixed": {"mu_coef": (1, 2)}}, "expert and term"),
    ({"fixed": {"sigma": 1, "sigma[0]": 2}}, "two values"),
    ({"fixed": {"sigma": 1}, "priors": {"sigma": HALF}}, "has no prior"),
    ({"fixed": {"sigma[0]": 1}, "priors": {"sigma[0]": HALF}}, "has no prior"),
    ({"fixed": {"gate_coef[0]": 1}}, "only differences"),
    ({"fixed": {"weights": (0.5, 0.6)}}, "sum to 1"),
    ({"fixed": {"weights": (0.0, 1.0)}}, "sum to 1"),
    ({"fixed": {"weights": (0.5, 0.5)}, "gate": "~ x"}, "has no features"),
    ({"fixed": ("sigma",)}, "must map names"),
    ({"priors": {"sigma[1]": P("Normal", sigma=1)}}, "positive support"),
    ({"priors": {"sigma[1]": P("HalfNormal", sigma=[1, 2])}}, "one number each"),
    ({"priors": {"mu_coef[x]": HALF}}, "real support"),
    ({"priors": {"gate_coef[x]": P("Normal", sigma=1)}}, "one prior for all experts"),
    ({"fixed": {"mu_coef": 0.0}, "predictor": "spline"}, "linear predictors"),
    ({"shared": ("mu_coef[x]",), "predictor": "horseshoe"}, "linear predictors"),
    ({"shared": ("sigma",), "predictor": "bart"}, "trees"),
    ({"fixed": {"p_coef[x]": 1.0}, "family": "categorical"}, "held at 0"),
    ({"priors": {"p_coef[x]": P("Normal", sigma=1)}, "family": "categorical"}, "one prior"),
    ({"fixed": {"p_coef[b, x]": 0.0}, **CLASSES}, "for all classes at once"),
    ({"shared": ("p_coef[b, x]",), **CLASSES}, "cannot be named alone"),
    ({"fixed": {"p_coef[x]": (1.0, 2.0)}, "priors": WIDE, **CLASSES}, "takes one number"),
    ({"fixed": {"gap[d]": 1.0}, **CLASSES, "family": "orderedprobit"}, "Unknown number or expert"),
    ({"fixed": {"gap[b]": -1.0}, **CLASSES, "family": "orderedprobit"}, "must be positive"),
    ({"fixed": {"p_coef[1, x]": 0.0}, **CLASSES, "levels": (0, 1, 2)}, "give both"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_what_cannot_be_is_an_error(settings, message):
    with pytest.raises(bm.SpecError, match=message):
        plain(**settings)


LATER = [
    ({"shared": ("mu_coef[z]",)}, "Unknown term"),
    ({"fixed": {"mu_coef[1, z]": 1.0}}, "Unknown term"),
    ({"fixed": {"mu_coef[0]": (1.0, 2.0, 3.0)}}, "shape"),
    ({"fixed": {"mu_coef": np.ones((2, 3))}}, "shape"),
    ({"shared": ("mu_coef[Intercept]",)}, "center=False"),
    ({"fixed": {"gate_coef[Intercept]": 0.0}, "gate": "~ x"}, "center=False"),
]


@pytest.mark.parametrize(("settings", "message"), LATER)
def test_what_a_table_does_not_allow_is_an_error(settings, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.fit(plain(**settings), table(), method="em", progressbar=False)


def test_missing_features_are_not_modelled_with_them():
    spec = plain(gate=bm.gates.Gaussian("~ x"), shared=("sigma",))
    with pytest.raises(bm.SpecError, match="no shared or fixed"):
        bm.fit(spec, table(), method="em", missing="model", progressbar=False)


def test_formulas_point_to_the_argument():
    with pytest.raises(bm.SpecError, match=r"shared=\('sigma',\)"):
        plain(sigma="shared")
    with pytest.raises(bm.SpecError, match="fixed="):
        plain(sigma=1.0)


@pytest.mark.parametrize(
    ("settings", "exchangeable"),
    [
        ({"shared": ("sigma",)}, 3),
        ({"fixed": {"sigma": 1.0}}, 3),
        ({"fixed": {"weights": (1 / 3, 1 / 3, 1 / 3)}}, 3),
        ({"fixed": {"weights": (0.25, 0.5, 0.25)}}, 1),
        ({"fixed": {"sigma": (1.0, 1.0, 2.0)}}, 1),
        ({"fixed": {"sigma[1]": 1.0}}, 1),
        ({"priors": {"sigma[1]": HALF}}, 1),
        ({"priors": {"sigma[1]": HALF, "sigma[0]": HALF}}, 1),
        ({"priors": {"mu_coef[x]": P("Normal", sigma=1)}}, 3),
        ({"fixed": {"sigma": (1.0, 2.0, 3.0)}}, 0),
        ({"fixed": {"gate_coef[x]": (1.0, -1.0, 0.0)}, "gate": "~ x"}, 0),
    ],
)
def test_experts_that_differ_are_not_exchangeable(settings, exchangeable):
    spec = plain(experts=3, **settings)
    assert len(list(spec.structure.symmetry.exchanges())) == exchangeable


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("p_coef[b, 1, x]", (1, 1, "x")),
        ("p_coef[b, 1]", (1, 1, None)),
        ("p_coef[b, x]", (1, None, "x")),
        ("p_coef[c]", (2, None, None)),
        ("p_coef[1, x]", (None, 1, "x")),
        ("p_coef[ a , 0 , I(x, 2)]", (0, 0, "I(x, 2)")),
        ("p_coef[1]", (None, 1, None)),
    ],
)
def test_entries_of_parameters_with_several_numbers(name, place):
    spec = plain(**CLASSES, priors={**WIDE, name: P("Normal", sigma=1)})
    ((entry, _),) = spec.structure.constraints.priors
    assert (entry.number, entry.expert, entry.term) == place


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"family": "categorical", "priors": WIDE, "shared": ("p_coef[b, x]",)}, "p_coef"),
        ({"family": "orderedlogistic", "shared": ("gap[b]",)}, "gap"),
    ],
)
def test_classes_of_a_table_can_be_named(settings, name):
    """Their labels are known when the description meets the table."""
    table_of_grades = table().assign(grade=lambda d: pd.Categorical(d["grade"], ordered=True))
    settings = {**CLASSES, "levels": None, **settings}
    fit = bm.fit(plain(**settings), table_of_grades, "em", restarts=2, random_seed=1)
    values = fit.idata["posterior"][name].isel(chain=0, draw=0)
    chosen = values.sel({values.dims[0]: "b"})
    chosen = chosen.sel(p_term="x") if name == "p_coef" else chosen
    assert chosen[0] == chosen[1]


def test_weights_follow_the_order_of_experts():
    experts = [bm.Expert("y ~ x", name="line"), bm.Expert("y ~ 1", name="level")]
    gate = bm.gates.Softmax("~ 1")
    three = [experts[0], experts[1], experts[0]]
    spec = MixtureOfExperts(gate, three, fixed={"weights": (0.2, 0.3, 0.5)})
    assert spec.fixed["weights"] == (0.2, 0.5, 0.3)
    assert MixtureOfExperts.from_json(spec.to_json()) == spec


def test_names_without_a_block_mean_all_blocks():
    spec = two_kinds(shared=("sigma",))
    (entries,) = spec.structure.constraints.shared
    assert [e.variable for e in entries] == ["line_sigma", "curve_sigma"]
    priors = {"line_sigma": HALF, "curve_sigma": P("HalfNormal", sigma=2)}
    other = two_kinds(shared=("sigma",), priors=priors)
    with pytest.raises(bm.SpecError, match="differ"):
        bm.fit(other, table(), method="em")


def test_weights_make_a_gate_without_features():
    spec = bm.mixture_of_experts("y ~ x", fixed={"weights": (0.3, 0.7)})
    assert spec.formulas["gate"] == "~ 1"


def test_units_of_a_shared_parameter_are_those_of_its_own_response():
    from bayes_moe.model.constrained_variables import constrained_parameters

    rng = np.random.default_rng(0)
    table = {"x": rng.normal(size=40), "a": rng.normal(size=40), "b": 1e3 * rng.normal(size=40)}
    shared = ("mu_a_coef[x]", "mu_b_coef[x]")
    spec = bm.mixture_of_experts("cbind(a, b) ~ x", gate="~ 1", family="mvnormal", shared=shared)
    design = spec.design(table)
    found = constrained_parameters(spec, design, spec.resolve_priors(design))
    units = {c.variable: scaling.units.unit for c, _, scaling, _ in found if scaling is not None}
    expected = {f"mu_{name}_coef": np.std(table[name]) for name in ("a", "b")}
    assert units == pytest.approx(expected)
