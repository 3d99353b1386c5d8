"""Inference methods: a settings record with ``run(graph, seed) -> DataTree``, one file a method."""

from __future__ import annotations

from bayes_moe.inference.base import Method

__all__ = ["Method"]
