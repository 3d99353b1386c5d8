"""One measure for the experts of a model: counts, lengths, and atoms beside a density."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families.point_mass import PointMass
from bayes_moe.model.measure import Measure, measure_of

NORMAL, GAMMA, POISSON = (families.by_name(name) for name in ("normal", "gamma", "poisson"))
BERNOULLI = families.by_name("bernoulli")


@pytest.mark.parametrize(
    ("together", "expected"),
    [
        ([NORMAL, GAMMA], Measure(False, -np.inf, np.inf, (), (0.0,))),
        ([GAMMA, GAMMA], Measure(False, 0.0, np.inf)),
        ([GAMMA, PointMass()], Measure(False, 0.0, np.inf, (0.0,))),
        ([GAMMA, PointMass(-1.0)], Measure(False, -1.0, np.inf, (-1.0,), (0.0,))),
        ([PointMass(2.0), NORMAL, PointMass()], Measure(False, -np.inf, np.inf, (0.0, 2.0))),
        ([PointMass(), POISSON], Measure(True, 0.0, np.inf)),
        ([PointMass(-2), POISSON, BERNOULLI], Measure(True, -2.0, np.inf)),
    ],
)
def test_the_measure_of_families(together, expected):
    assert measure_of(together) == expected
    assert measure_of(together[::-1]) == expected


@pytest.mark.parametrize(
    ("together", "words"),
    [
        ([NORMAL, POISSON], ["'poisson'", "'normal'", "all discrete or all continuous"]),
        ([PointMass(), GAMMA, BERNOULLI], ["'bernoulli'", "'gamma'"]),
        ([PointMass(0.5), POISSON], ["PointMass(at=0.5)", "'poisson'", "0.5"]),
        ([PointMass(), PointMass(1.0)], ["'pointmass'", "beside others"]),
        ([PointMass()], ["'pointmass'", "beside others"]),
    ],
)
def test_a_clash_names_both_families(together, words):
    experts = [bm.Expert("y ~ 1", family) for family in together]
    with pytest.raises(bm.SpecError) as caught:
        bm.MixtureOfExperts(bm.gates.Softmax("~ x"), experts)
    assert all(word in str(caught.value) for word in words)


def spec_of(*pairs, gate="~ 1"):
    return bm.MixtureOfExperts(bm.gates.Softmax(gate), [bm.Expert(*pair) for pair in pairs])


def test_a_density_is_zero_at_the_atom_of_another_expert():
    spec = spec_of(("y ~ 1", "normal"), ("y", PointMass()), ("y ~ 1", "gamma"))
    blocks = {block.family.kind: block for block in spec.structure.blocks}
    y = np.array([-1.0, 0.0, 1.0, 2.0])
    possible = {kind: block.supports(y, {}).tolist() for kind, block in blocks.items()}
    assert possible == {
        "normal": [True, False, True, True],
        "pointmass": [False, True, False, False],
        "gamma": [False, False, True, True],
    }
    params = {"mu": np.array([[0.3]]), "sigma": np.array([[2.0]])}
    found = blocks["normal"].log_density(y, params, NUMERIC)
    free = NORMAL.log_density(y, params, NUMERIC)
    np.testing.assert_array_equal(found, np.where(y == 0, -np.inf, free))


def test_counts_keep_their_probability_at_the_number_of_a_point_mass():
    spec = spec_of(("y ~ 1", "poisson"), ("y", "pointmass"))
    assert all(not block.atoms for block in spec.structure.blocks)


@pytest.fixture
def table():
    rng = np.random.default_rng(1)
    x = rng.normal(size=60)
    return pd.DataFrame({"x": x, "y": np.where(x > 0, rng.gamma(2.0, size=60), 0.0)})


def test_a_response_that_no_expert_can_have(table):
    spec = spec_of(("y ~ x", "gamma"), ("y", "pointmass"))
    assert spec.design(table).rows.size == 60
    wrong = table.assign(y=table.y.where(table.index != 7, -3.0))
    with pytest.raises(bm.DataError) as caught:
        spec.design(wrong)
    assert all(word in str(caught.value) for word in ("'y'", "-3 at row 7", "'gamma'"))


def test_a_row_is_enough_if_one_expert_can_have_it(table):
    real = table.assign(y=np.random.default_rng(3).normal(size=60))
    spec_of(("y ~ x", "gamma"), ("y ~ 1", "normal")).design(real)
    with pytest.raises(bm.DataError, match="No row has a response 'y' that the family 'gamma'"):
        spec_of(("y ~ x", "gamma"), ("y ~ 1", "normal")).design(real.assign(y=-np.exp(real.y)))
    with pytest.raises(bm.DataError, match="zero variance"):
        spec_of(("y ~ x", "gamma"), ("y", "pointmass")).design(table.assign(y=1.0 * (table.x > 0)))


def test_units_and_priors_are_those_of_the_responses_an_expert_can_have(table):
    both = spec_of(("y ~ x", "gamma"), ("y", "pointmass"))
    alone = spec_of(("y ~ x", "gamma"))
    of_both = both.resolve_priors(both.design(table))
    of_alone = alone.resolve_priors(alone.design(table[table.y > 0]))
    assert of_both["block0_alpha"] == of_alone["alpha"]
    factor = both.structure.factors[0]
    np.testing.assert_array_equal(
        factor.own_response(both.design(table).rows).values, table.y[table.y > 0]
    )
