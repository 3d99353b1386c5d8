"""Descriptions: they check themselves, print themselves, cannot change, and come back from JSON."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe import Expert, MixtureOfExperts, Prior, mixture_of_experts
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.gates import Softmax

HALF = Prior("HalfNormal", sigma=1)
WIDE = Prior("Normal", sigma=[1, 2])

SPECS = {
    "one expert": mixture_of_experts("y ~ x", experts=1),
    "default": mixture_of_experts("y ~ x"),
    "student": mixture_of_experts("log(y) ~ `my col` + größe", "~ 1", 4, "studentt", nu="~ x"),
    "priors": mixture_of_experts("y ~ x", priors={"mu_coef": WIDE, "sigma": HALF}, center=False),
    "two kinds": MixtureOfExperts(
        Softmax("~ z"),
        [
            Expert("y ~ x", name="line", sigma="~ x"),
            Expert("y ~ bs(x, df=5)", "studentt", name="curve"),
            Expert("y ~ x", name="line2", sigma="~ x"),
        ],
        {"curve_nu": Prior("Gamma", alpha=2, beta=0.1)},
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_round_trips(name):
    spec = SPECS[name]
    scope = {"MixtureOfExperts": MixtureOfExperts, "Expert": Expert, "Softmax": Softmax}
    for again in (
        MixtureOfExperts.from_json(spec.to_json()),
        MixtureOfExperts.from_dict(json.loads(json.dumps(spec.to_dict()))),
        pickle.loads(pickle.dumps(spec)),
        copy.copy(spec),
        copy.deepcopy(spec),
        eval(repr(spec), scope | {"Prior": Prior}),
    ):
        assert again == spec
        assert hash(again) == hash(spec)
        assert repr(again) == repr(spec)
    assert sum(spec == other for other in SPECS.values()) == 1


@pytest.mark.parametrize("record", [SPECS["priors"], SPECS["priors"].experts[0], HALF])
def test_descriptions_are_frozen(record):
    before = record.to_json()
    for change in (
        lambda: setattr(record, "formula", "y ~ z"),
        lambda: setattr(record, "center", True),
        lambda: delattr(record, "priors"),
        lambda: setattr(record, "new", 1),
    ):
        with pytest.raises(AttributeError, match="is frozen"):
            change()
    record.to_dict().clear()
    assert record.to_json() == before


def test_a_spec_keeps_no_hold_of_what_it_was_made_of():
    priors, experts = {"sigma": HALF}, [Expert("y ~ x")] * 2
    spec = MixtureOfExperts(Softmax(), experts, priors)
    priors["mu_coef"] = WIDE
    experts.clear()
    assert dict(spec.priors) == {"sigma": HALF}
    assert spec.n_experts == 2
    with pytest.raises(TypeError):
        spec.priors["sigma"] = WIDE


def test_a_recipe_is_the_composition_by_hand():
    by_hand = MixtureOfExperts(
        gate=Softmax("~ z"), experts=[Expert("y ~ x", "studentt", sigma="~ x")] * 3
    )
    assert mixture_of_experts("y ~ x", "~ z", 3, "studentt", sigma="~ x") == by_hand
    assert (
        mixture_of_experts("y ~ x", Softmax("~ z"), np.int64(3), "studentt", sigma="~ x") == by_hand
    )
    assert mixture_of_experts("y ~ x").formulas == {"gate": "~ x", "mu": "~ x"}
    assert mixture_of_experts("y ~ x", "~ 1").formulas == {"gate": "~ 1", "mu": "~ x"}


def test_experts_of_a_kind_stand_together():
    spec = SPECS["two kinds"]
    assert [e.name for e in spec.experts] == ["line", "line2", "curve"]
    assert [b.positions for b in spec.structure.blocks] == [(0, 1), (2,)]
    assert spec.variables == (
        "gate_coef", "line_mu_coef", "line_sigma_coef", "curve_mu_coef", "curve_sigma", "curve_nu"
    )  # fmt: skip
    assert spec.expert_labels == ["line", "line2", "curve"]
    # The same formula in other spacing is the same kind.
    same = MixtureOfExperts(Softmax(), [Expert("y ~ x"), Expert(" y~x")])
    assert len(same.structure.blocks) == 1
    assert same.expert_labels == [0, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixture_of_experts("y ~ x", experts=0), "`experts`.*>= 1; it is 0"),
        (lambda: mixture_of_experts("y ~ x", experts=2.0), "whole number.*it is 2.0"),
        (lambda: mixture_of_experts("y ~ x", experts=True), "it is True"),
        (lambda: mixture_of_experts("y ~ x", experts="2"), "it is '2'"),
        (lambda: mixture_of_experts("y ~ x", family="Normal"), "'Normal'. Did you mean 'normal'"),
        (lambda: mixture_of_experts("y ~ x", family=None), "Unknown family None"),
        (lambda: mixture_of_experts("y ~ x", sigm="~ x"), "'sigm'. Did you mean 'sigma'"),
        (lambda: mixture_of_experts("y ~ x", nu="~ x"), "'nu'. Valid: 'sigma'"),
        (lambda: mixture_of_experts("y ~ x", sigma="y ~ x"), "of 'sigma' has no left-hand side"),
        (lambda: mixture_of_experts("y ~ x", sigma="x | z"), "of 'sigma' has one right-hand side"),
        (lambda: mixture_of_experts("y ~ x", sigma=""), "of 'sigma' has no terms"),
        (
            lambda: mixture_of_experts("y ~ x", sigma=2),
            "'sigma' of an expert is a formula; it is 2",
        ),
        (lambda: mixture_of_experts("y ~ x", gate="y ~ z"), "of 'gate' has no left-hand side"),
        (lambda: mixture_of_experts("y ~ x", gate="x | z"), "of 'gate' has one right-hand side"),
        (lambda: mixture_of_experts("y ~ x", gate=""), "of 'gate' has no terms"),
        (lambda: mixture_of_experts("y ~ x", gate="~ 0"), "of 'gate' has no terms"),
        (lambda: mixture_of_experts("y ~ x", gate="~ z +"), r"Cannot read the formula '~ z \+'"),
        (lambda: mixture_of_experts("y ~ x", gate=2), "must be a string.*it is 2"),
        (lambda: mixture_of_experts("y ~ x", center="no"), "`center`.*it is 'no'"),
        (lambda: mixture_of_experts("x"), "needs one response"),
        (lambda: mixture_of_experts(None), "must be a string"),
        (lambda: Expert("y ~ x", name="a b"), "identifier; it is 'a b'"),
        (lambda: Expert("y ~ x", name=3), "identifier; it is 3"),
        (lambda: MixtureOfExperts("~ x", [Expert("y ~ x")]), "Expected Gate, got '~ x'"),
        (lambda: MixtureOfExperts(Softmax(), Expert("y ~ x")), "must be a list of Expert"),
        (lambda: MixtureOfExperts(Softmax(), 2), "must be a list of Expert, got 2"),
        (lambda: MixtureOfExperts(Softmax(), []), "at least one expert"),
        (lambda: MixtureOfExperts(Softmax(), ["y ~ x"]), "Expected Expert, got 'y ~ x'"),
        (lambda: two("y ~ x", "z ~ x"), "share one response; got y, z"),
        (lambda: two("y ~ x", "y ~ z", "gate", "b"), "'gate' is taken"),
        (lambda: two("y ~ x", "y ~ z", "b", "b"), "'b' is taken"),
        (lambda: two("y ~ x", "y ~ z", None, "block0"), "'block0' is taken"),
        (lambda: with_priors([HALF]), r"`priors` must map names to Prior; it is \["),
        (lambda: with_priors({"sigm": HALF}), "Unknown prior 'sigm'. Did you mean 'sigma'"),
        (lambda: with_priors({"mu": WIDE}), "Unknown prior 'mu'. Did you mean 'mu_coef'"),
        (lambda: with_priors({"sigma": 1.0}), "prior of 'sigma' must be a Prior; it is 1.0"),
        (lambda: with_priors({"sigma": WIDE}), "'sigma' must have positive support; Normal"),
        (lambda: with_priors({"mu_coef": HALF}), "'mu_coef' must have real support; HalfNormal"),
        (lambda: with_priors({"gate_coef": HALF}), "'gate_coef' must have real or zero-sum"),
        (lambda: with_priors({"mu_coef": Prior("ZeroSumNormal", sigma=1)}), "real support"),
        (
            lambda: with_priors({"sigma": Prior("HalfNormal", sigma=[1, 2])}),
            r"same for all experts: its argument 'sigma' must be one number; it is \(1.0, 2.0\)",
        ),
    ],
)
def test_descriptions_that_cannot_be(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def two(first, second, name=None, other=None):
    return MixtureOfExperts(Softmax(), [Expert(first, name=name), Expert(second, name=other)])


def with_priors(priors):
    return mixture_of_experts("y ~ x", priors=priors)


@pytest.mark.parametrize("cls", [MixtureOfExperts, Expert, Prior])
@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[1]", "null", '"x"', '{"gate": 1}'])
def test_texts_that_describe_nothing(cls, text):
    with pytest.raises(SpecError):
        cls.from_json(text)


@pytest.mark.parametrize("change", ["gate", "experts", "priors", "center"])
def test_descriptions_with_a_part_missing_or_unknown(change):
    record = SPECS["priors"].to_dict()
    del record[change]
    with pytest.raises(SpecError, match=f"The description has no '{change}'"):
        MixtureOfExperts.from_json(json.dumps(record))
    record = SPECS["priors"].to_dict()
    record["gate"]["kind"] = "softmaxx"
    with pytest.raises(SpecError, match=r"Unknown gate 'softmaxx'\. Did you mean 'softmax'"):
        MixtureOfExperts.from_json(json.dumps(record))


ROWS = pd.DataFrame({"y": [0.0, 1.0, 2.0], "x": [1.0, 0.0, 3.0]})


@pytest.mark.parametrize(
    ("data", "experts", "message"),
    [
        (ROWS, 4, r"more experts \(4\) than rows \(3\)"),
        (ROWS.assign(y=7.0), 2, "response 'y' has zero variance .* all 3 values are 7"),
        (ROWS.iloc[:0], 2, r"The table has 0 row\(s\)"),
        (ROWS.iloc[:1], 1, r"The table has 1 row\(s\)"),
        (ROWS.drop(columns="x"), 2, "Unknown column 'x'"),
        (None, 2, "Cannot read a table from 'NoneType'"),
    ],
)
def test_tables_that_a_model_cannot_be_fitted_to(data, experts, message):
    with pytest.raises(DataError, match=message):
        mixture_of_experts("y ~ x", experts=experts).design(data)


@pytest.mark.parametrize(
    "formulas", [{"gate": "~ y"}, {"sigma": "~ x + y"}, {"gate": "~ log(y + 1)"}]
)
def test_no_part_of_a_model_sees_the_response(formulas):
    with pytest.raises(SpecError, match="a response cannot be its own feature"):
        mixture_of_experts("y ~ x", **formulas).design(ROWS)


@pytest.mark.parametrize("spec", [None, "y ~ x", SPECS["default"].experts[0]])
def test_fit_wants_a_spec(spec):
    with pytest.raises(SpecError, match="`spec` must be a MixtureOfExperts"):
        bm.fit(spec, ROWS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "nutz"}, "Unknown method 'nutz'. Did you mean 'nuts'"),
        ({"method": None}, "Unknown method None"),
        ({"random_seed": -1}, "`random_seed`.*-1"),
        ({"random_seed": 1.5}, "`random_seed`.*1.5"),
        ({"random_seed": "1"}, "`random_seed`.*'1'"),
        ({"missing": "ignore"}, "Unknown value of `missing` 'ignore'"),
    ],
)
def test_settings_are_checked_before_anything_is_compiled(settings, message):
    with pytest.raises(SpecError, match=message):
        bm.fit(SPECS["default"], ROWS, **settings)


TRUTH = {"gate_coef": [[1.0], [-1.0]], "mu_coef": [[0, 1], [1, 0]], "sigma": [1, 2.0]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": 3}, "`parameters` must map names to arrays; it is 3"),
        ({"parameters": TRUTH | {"sigma": [1, -1]}}, r"'sigma' must be positive; it is \[1, -1\]"),
        ({"parameters": TRUTH | {"sigma": [1, np.nan]}}, "'sigma' must be finite"),
        ({"parameters": TRUTH | {"sigma": [1, [2]]}}, r"'sigma' must be numbers of shape \(2,\)"),
        ({"random_seed": -1}, "`random_seed` must be a whole number >= 0; it is -1"),
        ({"random_seed": "x"}, "`random_seed`.*'x'"),
        ({"expert_column": "x"}, "`expert_column` would overwrite the column 'x'"),
        ({"expert_column": "y"}, "`expert_column` would overwrite the column 'y'"),
        ({"spec": mixture_of_experts("log(y) ~ x", "~ 1")}, r"'log\(y\)' is an expression"),
    ],
)
def test_simulations_that_cannot_be(settings, message):
    given = {"spec": mixture_of_experts("y ~ x", "~ 1"), "rows": ROWS, "parameters": TRUTH}
    with pytest.raises(SpecError, match=message):
        bm.simulate(**given | settings)


def test_a_simulation_may_stand_still_and_leaves_its_rows_alone():
    spec = mixture_of_experts("`my y` ~ x", "~ 1")
    rows = pd.DataFrame({"x": [2.0, 2.0], "my y": ["a", "b"]})
    before = rows.copy(deep=True)
    table = bm.simulate(spec, rows, TRUTH, random_seed=1, expert_column="who")
    pd.testing.assert_frame_equal(rows, before)
    assert list(table) == ["x", "my y", "who"]
    assert rows.attrs == {}
    assert np.isfinite(table["my y"].to_numpy(dtype=float)).all()
