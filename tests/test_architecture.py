"""The house: its table of modules, imports without a circle, sizes, and tests that mirror it."""

import graphlib
import inspect
import pkgutil
import re

import pytest

import bayes_moe
from tests.support import source
from tests.support.source import PACKAGE, ROOT

MODULES = source.modules()

LONGEST_FILE = 400
LONGEST_FUNCTION = 45
"""Lines without the docstring."""
MOST_METHODS = 15
MOST_ARGUMENTS = 7
"""Of functions that users do not call."""

CIRCLES: set[tuple[str, str]] = set()
"""Imports (importer, imported) that close a circle and have a reason, to be given here."""


def test_module_table_is_complete():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9_./]+)` \|", text, flags=re.MULTILINE)
    modules = set()
    for module in pkgutil.walk_packages(bayes_moe.__path__, "bayes_moe."):
        path = module.name.removeprefix("bayes_moe.").replace(".", "/")
        modules.add(f"{path}/" if module.ispkg else path)
    assert len(rows) == len(set(rows))
    assert set(rows) == modules


# --- imports --------------------------------------------------------------------------------------


def imported(module):
    """Modules of the package that a module imports."""
    nearest = {name if name in MODULES else name.rpartition(".")[0] for name in module.imports}
    return nearest & MODULES.keys() - {module.name, PACKAGE}


def test_imports_have_no_circle():
    """Imports inside functions and for type checkers count: a circle is one of understanding."""
    graph = {n: {o for o in imported(m) if (n, o) not in CIRCLES} for n, m in MODULES.items()}
    del graph[PACKAGE]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("A circle of imports: " + " <- ".join(error.args[1]), pytrace=False)


def test_allowed_circles_are_imports():
    assert {(a, b) for a, b in CIRCLES if b in imported(MODULES[a])} == CIRCLES


# --- sizes ----------------------------------------------------------------------------------------


def none_is_over(limit, sizes):
    """Fail with the names of all that is larger than a limit, the largest first."""
    large = sorted((size, name) for name, size in sizes.items() if size > limit)[::-1]
    assert not large, f"over {limit}:\n" + "\n".join(f"{size} {name}" for size, name in large)


def test_files_are_short():
    none_is_over(LONGEST_FILE, {name: module.lines for name, module in MODULES.items()})


def test_functions_are_short():
    sizes = {n: source.length(f) for m in MODULES.values() for n, f in source.functions(m)}
    none_is_over(LONGEST_FUNCTION, sizes)


def test_classes_have_few_methods():
    sizes = {n: len(source.methods(c)) for m in MODULES.values() for n, c in source.classes(m)}
    none_is_over(MOST_METHODS, sizes)


def face():
    """Qualified names of what users call: functions of the face, and its classes."""
    values = [getattr(bayes_moe, name) for name in bayes_moe.__all__]
    values += [getattr(bayes_moe.text, name) for name in bayes_moe.text.__all__]
    return {f"{v.__module__}.{v.__qualname__}" for v in values if not inspect.ismodule(v)}


def is_public(name, face):
    """Whether a function is of the face, or a public method of a class of the face."""
    owner, _, method = name.rpartition(".")
    return name in face or (owner in face and (method == "__init__" or not method.startswith("_")))


def test_functions_have_few_arguments():
    public = face()
    sizes = {
        name: len(source.arguments(function))
        for module in MODULES.values()
        for name, function in source.functions(module)
        if not is_public(name, public)
    }
    none_is_over(MOST_ARGUMENTS, sizes)


# --- tests ----------------------------------------------------------------------------------------


def test_no_test_imports_another():
    """What several tests share is in ``tests/support``."""
    wrong = {
        f"{name} imports {other}"
        for name, module in source.modules("tests").items()
        for other in module.imports
        if other.startswith("tests.") and re.search(r"\.(test_\w+|conftest)(\.|$)", other)
    }
    assert wrong == set()


def test_tests_mirror_the_package():
    folders = {name.split(".")[1] for name in source.modules("tests") if name.count(".") > 1}
    assert folders - {"support"} <= {name.split(".")[1] for name in MODULES if name.count(".") > 1}
