"""Quantiles of mixtures, found by threads."""

import importlib.util
import sys

from bayes_moe.prediction import quantiles


def test_array_libraries_are_loaded_before_threads_use_them(tmp_path, monkeypatch):
    path = tmp_path / "waits_for_use.py"
    path.write_text("VALUE = 1")
    spec = importlib.util.spec_from_file_location("waits_for_use", path)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "waits_for_use", module)
    spec.loader.exec_module(module)
    assert type(module) is importlib.util._LazyModule
    monkeypatch.setattr(quantiles, "ARRAY_LIBRARIES", ("waits_for_use", "not_imported"))
    quantiles.load_array_libraries()
    assert type(module) is not importlib.util._LazyModule
    assert module.VALUE == 1
