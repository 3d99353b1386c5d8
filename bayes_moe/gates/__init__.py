"""Gates: features of a row -> log weights over experts, one small class each."""

from __future__ import annotations

from bayes_moe.gates.attention import Attention
from bayes_moe.gates.base import Gate
from bayes_moe.gates.gaussian import Gaussian
from bayes_moe.gates.markov import Markov
from bayes_moe.gates.softmax import Softmax
from bayes_moe.gates.stick_breaking import StickBreaking
from bayes_moe.gates.tree import Tree

__all__ = ["Attention", "Gate", "Gaussian", "Markov", "Softmax", "StickBreaking", "Tree"]
