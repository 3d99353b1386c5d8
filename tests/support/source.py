"""What the sources of the package say of themselves, read as syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "bayes_moe"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module: its dotted name, its text, and the tree of it."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Number of lines."""
        return len(self.text.splitlines())

    @property
    def imports(self) -> set[str]:
        """Dotted names that are imported anywhere: at the top, in functions, for type checkers.

        ``from a import b`` counts as ``a.b``.
        """
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                names |= {f"{origin}.{alias.name}" for alias in node.names}
        return names

    def _origin(self, node: ast.ImportFrom) -> str:
        """Absolute name of the module that something is imported from."""
        if not node.level:
            return node.module or ""
        package = self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]
        parents = package.split(".")
        kept = parents[: len(parents) - node.level + 1]
        return ".".join([*kept, node.module] if node.module else kept)


@cache
def modules(folder: str = PACKAGE) -> dict[str, Module]:
    """All modules below a folder of the repository, by dotted name."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, text, ast.parse(text))
    return found


def functions(module: Module) -> Iterator[tuple[str, Function]]:
    """Functions and methods with their qualified names, inner ones too."""
    yield from _functions(module.tree, module.name)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            name = f"{prefix}.{child.name}"
            if isinstance(child, Function):
                yield name, child
            yield from _functions(child, name)
        else:
            yield from _functions(child, prefix)


def classes(module: Module) -> Iterator[tuple[str, ast.ClassDef]]:
    """Classes with their qualified names."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            yield f"{module.name}.{node.name}", node


def length(function: Function) -> int:
    """Lines of a function without its decorators and its docstring."""
    total = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return total
    docstring = function.body[0]
    return total - ((docstring.end_lineno or 0) - docstring.lineno + 1)


def arguments(function: Function) -> list[str]:
    """Names of a function's arguments but ``self`` and ``cls``."""
    spec = function.args
    named = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
    rest = [a for a in (spec.vararg, spec.kwarg) if a is not None]
    return [a.arg for a in (*named, *rest) if a.arg not in ("self", "cls")]


def methods(node: ast.ClassDef) -> set[str]:
    """Names of a class's methods, properties among them."""
    return {child.name for child in node.body if isinstance(child, Function)}
