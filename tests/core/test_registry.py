"""Every registered piece has an example, and so is under the contract of its kind."""

from bayes_moe import families
from bayes_moe.core import registry
from tests.support import examples


def test_every_family_has_an_example():
    every = [*examples.FAMILIES, *examples.CLASSES, *examples.WITHOUT_PARAMETERS]
    every += [*examples.OF_SEVERAL_RESPONSES, *examples.OF_KNOWN_DENSITIES]
    with_zeros = {families.by_name(name).kind for name in examples.FAMILIES_WITH_ZEROS}
    assert {*every, *with_zeros} == set(registry.TABLE["family"])


def test_every_gate_has_an_example():
    gates = (*examples.GATES.values(), *examples.GATES_WITH_MEMORY.values())
    assert {gate.kind for gate in gates} == set(registry.TABLE["gate"])


def test_every_predictor_has_an_example():
    kinds = {predictor.kind for predictor, _ in examples.PREDICTORS.values()}
    rest = examples.PREDICTORS_WITHOUT_GRADIENT
    assert kinds | set(rest) == set(registry.TABLE["predictor"])
    assert not any(predictor.gradient for predictor in rest.values())


def test_every_prior_has_an_example():
    from bayes_moe.priors.prior import DISTRIBUTIONS

    assert {prior.distribution for prior in examples.PRIORS} == set(DISTRIBUTIONS)
