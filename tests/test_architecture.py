"""ARCHITECTURE.md's module table names every module, once, and no other."""

import pkgutil
import re
from pathlib import Path

import bayes_moe

ROOT = Path(__file__).parent.parent


def test_module_table_is_complete():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_./]+)` \|", text, flags=re.MULTILINE)
    modules = set()
    for module in pkgutil.walk_packages(bayes_moe.__path__, "bayes_moe."):
        path = module.name.removeprefix("bayes_moe.").replace(".", "/")
        modules.add(f"{path}/" if module.ispkg else path)
    assert len(rows) == len(set(rows))
    assert set(rows) == modules
