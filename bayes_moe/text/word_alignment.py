"""Word alignment of a parallel text: IBM models 1 and 2, and a gate along the diagonal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bayes_moe.core.checks import check_number, check_one_of, check_positive, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.progress import progress
from bayes_moe.text.alignment_em import Cells, Settings, run
from bayes_moe.text.fitted_alignment import METHODS, MODELS, Alignment
from bayes_moe.text.parallel_text import ParallelText
from bayes_moe.text.position_gates import DiagonalGate, PositionGate, TableGate, UniformGate

START_NULL = 0.1
"""Probability of NULL from which that of the diagonal model is estimated."""


def alignment(
    source: Iterable[Any],
    target: Iterable[Any],
    model: str = "ibm1",
    *,
    method: str = "variational",
    concentration: float | None = None,
    null_probability: float | None = None,
    position_concentration: float = 1.0,
    iterations: int = 20,
    start_iterations: int = 5,
    tolerance: float = 1e-4,
    tokenizer: Callable[[str], Iterable[str]] | None = None,
    progressbar: bool = True,
) -> Alignment:
    r"""Align the words of a parallel text: a mixture of experts, one for each source word.

    Each target word is made by one source word of its sentence, or by NULL:

    ``p(t_j | s) = sum_i a(i | j, l, m) T(t_j | s_i)``, with ``i = 0`` (NULL) to ``l``, the length
    of the source sentence; ``m`` is that of the target sentence, which is not modelled. The experts
    ``T(. | s)`` are categorical distributions of target words, and ``a`` is the gate:

    * ``"ibm1"``: equal for all positions (Brown et al. 1993, model 1);
    * ``"ibm2"``: a table for each ``j``, ``l`` and ``m`` (model 2), uniform for lengths that the
      text does not have;
    * ``"diagonal"``: ``p_0`` for NULL, and for the others ``1 - p_0`` times the softmax over ``i``
      of ``-strength |i / l - j / m|`` (Dyer et al. 2013); the strength is estimated, under a normal
      prior of standard deviation 20.

    Nothing is random: EM begins with equal translation probabilities, and the gates of ``"ibm2"``
    and ``"diagonal"`` are uniform during the first ``start_iterations``.

    Parameters
    ----------
    source, target : list of sentences
        Sentences that translate each other, as texts or as lists of words. Texts are split into
        words in lower case and marks of punctuation; see ``tokenizer``.
    model : {"ibm1", "ibm2", "diagonal"}
        The gate.
    method : {"variational", "em"}
        ``"variational"``: tables and alignments have independent posteriors (variational Bayes:
        Riley and Gildea 2012); the objective is a lower bound of the log marginal likelihood.
        ``"em"``: the tables of largest posterior density; the objective is the log posterior up to
        a constant. The objective never falls. Gates are estimated by their modes in both.
    concentration : float, optional
        ``alpha`` of the symmetric Dirichlet prior of each ``T(. | s)`` over all ``V`` target words.
        By default ``1 / V`` (variational), a prior of the weight of one word, or 1 (EM), maximum
        likelihood. EM needs at least 1.
    null_probability : float, optional
        Probability of NULL, at least 0 and below 1. By default NULL is one of ``l + 1`` positions
        (``"ibm1"``, ``"ibm2"``), or its probability is estimated (``"diagonal"``).
    position_concentration : float
        ``"ibm2"``: concentration of the Dirichlet prior of each row of its table, at least 1.
    iterations : int
        Most iterations, after ``start_iterations``.
    start_iterations : int
        Iterations of model 1 before those of ``"ibm2"`` and ``"diagonal"``.
    tolerance : float
        EM ends when the objective rises by no more than this, in nats for each target word; at
        least 0.
    tokenizer : callable, optional
        Function of a text to its words, in the place of the rule above.
    progressbar : bool
        Whether to show the progress of runs of more than a second.

    Returns
    -------
    Alignment
        With translation tables, alignments and probabilities of new pairs.

    Raises
    ------
    SpecError
        For unknown names and settings that cannot be.
    DataError
        For texts that are no pairs of sentences, and for sentences without words.

    References
    ----------
    Brown, P. F., Della Pietra, S. A., Della Pietra, V. J., & Mercer, R. L. (1993). The mathematics
    of statistical machine translation: parameter estimation. Computational Linguistics, 19(2),
    263-311.

    Dyer, C., Chahuneau, V., & Smith, N. A. (2013). A simple, fast, and effective reparameterization
    of IBM model 2. Proceedings of NAACL-HLT, 644-648.

    Riley, D., & Gildea, D. (2012). Improving the IBM alignment models using variational Bayes.
    Proceedings of ACL, 306-310.
    """
    check_one_of("model of alignment", model, MODELS)
    check_one_of("method", method, METHODS)
    if null_probability is not None:
        check_number("null_probability", null_probability)
        if not 0 <= null_probability < 1:
            raise SpecError(
                f"`null_probability` must be at least 0 and below 1; it is {null_probability!r}."
            )
    _check_at_least_one("position_concentration", position_concentration, "")
    if position_concentration != 1 and model != "ibm2":
        raise SpecError(f"`position_concentration` is of model 'ibm2'; this is {model!r}.")
    check_whole("iterations", iterations, 1)
    check_whole("start_iterations", start_iterations, 0)
    check_number("tolerance", tolerance)
    if tolerance < 0:
        raise SpecError(f"`tolerance` must be at least 0; it is {tolerance!r}.")
    text = ParallelText.read(source, target, tokenizer)
    variational = method == "variational"
    if concentration is None:
        concentration = 1 / text.target.size if variational else 1.0
    check_positive("concentration", concentration)
    if not variational:
        _check_at_least_one("concentration", concentration, "; method='variational' takes less")
    settings = Settings(
        float(concentration), variational, int(start_iterations), int(iterations), float(tolerance)
    )
    cells = Cells.of(text)
    gate = _start(model, cells, null_probability, position_concentration)
    with progress("Alignment", shown=progressbar) as update:
        return Alignment(model, settings, text, run(cells, gate, settings, update))


def _check_at_least_one(name: str, value: Any, advice: str) -> None:
    check_positive(name, value)
    if value < 1:
        raise SpecError(
            f"`{name}` must be at least 1, or the posterior has no mode inside; it is {value!r}"
            f"{advice}."
        )


def _start(
    model: str, cells: Cells, null: float | None, position_concentration: float
) -> PositionGate:
    """Gate from which EM begins."""
    if model == "ibm1":
        return UniformGate(null)
    if model == "ibm2":
        return TableGate.start(cells.shapes, null, float(position_concentration))
    return DiagonalGate(START_NULL if null is None else null, null is not None)
