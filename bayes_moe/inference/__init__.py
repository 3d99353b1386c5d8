"""Inference: records of settings with ``run(spec, design, seed) -> DataTree``, one file each."""

from __future__ import annotations

from bayes_moe.inference.base import Method

__all__ = ["Method"]
