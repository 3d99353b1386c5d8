"""Every registered family holds the contract, so that a new one is tested at once."""

from pathlib import Path

import pytest

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core import registry
from bayes_moe.families import listing
from tests.support import contracts
from tests.support.examples import FAMILIES


@pytest.mark.parametrize("check", contracts.FAMILY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_holds_the_contract(name, check):
    check(families.by_name(name))


def test_the_page_on_families_has_the_table_of_the_registry():
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    assert listing.markdown() in page


def test_families_are_attributes_by_the_name_of_their_class():
    assert bm.families.Normal is registry.resolve("family", "normal")
    assert {"Normal", "Categorical"} <= set(dir(bm.families))
    with pytest.raises(AttributeError, match="no attribute 'Norml'"):
        bm.families.Norml  # noqa: B018
