"""Every registered family holds the contract, so that a new one is tested at once."""

import inspect
import re
from pathlib import Path

import pytest

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core import registry
from tests.support import contracts
from tests.support.examples import FAMILIES


@pytest.mark.parametrize("check", contracts.FAMILY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_holds_the_contract(name, check):
    check(families.by_name(name))


@pytest.mark.parametrize(
    "described", [bm.Expert, bm.mixture_of_experts, bm.hierarchical_mixture, bm.mixture_density]
)
def test_docstrings_list_the_families_of_the_registry(described):
    text = re.search(r"^family : .*?(?=^\w)", inspect.getdoc(described), re.M | re.S).group()
    assert set(re.findall(r'"(\w+)"', text)) == set(registry.TABLE["family"])


def test_the_models_page_lists_the_families_of_the_registry():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    table = page.split("## Families")[1].split("\n\n")[2]
    assert re.findall(r'^\| `"(\w+)"`', table, re.M) == list(registry.TABLE["family"])
