"""Word alignment of a parallel text: IBM models 1 and 2, and a gate along the diagonal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import html
from bayes_moe.core.checks import check_number, check_one_of, check_positive, check_whole
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.core.progress import progress
from bayes_moe.text import stored_alignment
from bayes_moe.text.aligned_pairs import links_of, log_likelihoods, responsibilities
from bayes_moe.text.alignment_em import Cells, Run, Settings, run
from bayes_moe.text.alignment_tables import translations, word_for_word
from bayes_moe.text.parallel_text import NULL, ParallelText, SentencePairs
from bayes_moe.text.position_gates import DiagonalGate, PositionGate, TableGate, UniformGate

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

MODELS = {"ibm1": "IBM model 1", "ibm2": "IBM model 2", "diagonal": "Diagonal model"}
METHODS = ("em", "variational")
START_NULL = 0.1
"""Probability of NULL from which that of the diagonal model is estimated."""

Link = tuple[int, int]


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
        EM ends when the objective rises by less than this, in nats for each target word.
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


@dataclass(frozen=True, repr=False, eq=False)
class Alignment:
    """A fitted word alignment, made by :func:`alignment`.

    Attributes
    ----------
    model : str
        Name of the gate.
    settings : Settings
        Concentration and settings of the run.
    text : ParallelText
        Vocabularies, and sentence pairs as numbers.
    run : Run
        Translation table, gate, and ``trace``: the objective after each iteration.
    """

    model: str
    settings: Settings
    text: ParallelText
    run: Run

    @property
    def trace(self) -> np.ndarray:
        """Objective after each iteration; it never falls."""
        return self.run.trace

    @property
    def method(self) -> str:
        """Name of the method."""
        return METHODS[0] if not self.settings.variational else METHODS[1]

    def translation_table(
        self, word: str | None, n: int | None = 10, *, ci_prob: float | None = None
    ) -> pd.DataFrame:
        """Return the likeliest translations of a source word, with intervals.

        The probability is ``a / A`` and the interval that of Beta(a, A - a), the marginal of
        Dirichlet(a): ``a`` is the expected count of the pair plus ``alpha`` (variational) or
        ``alpha - 1`` (EM). It is the posterior of the table if alignments were known, at their
        expected counts. The uncertainty of which alignment is right enters only through these
        counts, so that intervals are too narrow where words compete.

        Parameters
        ----------
        word : str or None
            A word of the source texts; None is NULL.
        n : int, optional
            Most rows; None: all target words of sentences with the word.
        ci_prob : float, optional
            Probability inside the intervals; by default ArviZ's ``rcParams["stats.ci_prob"]``.

        Returns
        -------
        pandas.DataFrame
            By target word: ``probability``, ``lower``, ``upper``, and ``count``, the expected
            number of times that it translates the word.

        Raises
        ------
        SpecError
            For a word that the source texts lack, and other settings that cannot be.
        """
        return translations(self.run.table, self.text, word, n, ci_prob)

    def alignments(
        self,
        source: Iterable[Any] | None = None,
        target: Iterable[Any] | None = None,
        *,
        threshold: float | None = None,
    ) -> list[list[Link]]:
        """Return links (source position, target position) of sentence pairs, counted from 0.

        Parameters
        ----------
        source, target : list of sentences, optional
            Sentence pairs; by default the fitted ones. A target word that the fitted texts lack
            is equally likely of all source words, so that its link is that of the gate.
        threshold : float, optional
            By default the most probable alignment (Viterbi): the likeliest source position of each
            target word, the first of equals; words from NULL have no link. With a number strictly
            between 0 and 1, all links of at least this posterior probability.
        """
        pairs = self._pairs(source, target)
        if threshold is not None and not 0 < threshold < 1:
            raise SpecError(f"`threshold` must lie strictly between 0 and 1; it is {threshold!r}.")
        return links_of(self.run, self.text, pairs, threshold)

    def posterior(self, pair: Any) -> xr.DataArray:
        """Return the posterior probability of the source of each target word.

        Parameters
        ----------
        pair : int or pair of sentences
            Number of a fitted pair, or ``(source, target)``.

        Returns
        -------
        xarray.DataArray
            Probabilities (source, target), NULL first; each target word's sum to one. Words are
            coordinates.
        """
        import xarray as xr

        ours, theirs, pairs = self._one(pair)
        ((_, shares),) = responsibilities(self.run, self.text, pairs)
        return xr.DataArray(
            shares[0].T,
            dims=("source", "target"),
            coords={"source": [NULL, *ours], "target": theirs},
            name="probability",
        )

    def log_likelihood(self, source: Iterable[Any], target: Iterable[Any]) -> pd.DataFrame:
        """Return log probabilities of target sentences given source sentences and their lengths.

        Tables are at the means of their posteriors (EM: at the mode). A source word that the
        fitted texts lack has the mean of its prior, all target words alike. Target words that they
        lack have no probability here: they are left out and counted.

        Returns
        -------
        pandas.DataFrame
            By pair: ``log_likelihood`` (nats), ``words``, those that it is of, and ``unknown``,
            the number of target words that were left out.
        """
        return log_likelihoods(self.run, self.text, self._pairs(source, target))

    def perplexity(self, source: Iterable[Any], target: Iterable[Any]) -> float:
        """Return ``exp(-log likelihood / words)`` of new pairs, over known target words.

        Raises
        ------
        DataError
            If no target word is known.
        """
        table = self.log_likelihood(source, target)
        if not table["words"].sum():
            raise DataError("The fitted texts have no word of `target`: there is no perplexity.")
        return float(np.exp(-table["log_likelihood"].sum() / table["words"].sum()))

    def gloss(self, sentence: Any) -> pd.DataFrame:
        """Return the likeliest translation of each word of a source sentence, word for word.

        It is no translation of the sentence: order, agreement and NULL's words are left out.

        Returns
        -------
        pandas.DataFrame
            ``source``, ``target`` and ``probability`` by word; missing for unknown source words.
        """
        return word_for_word(self.run.table, self.text, sentence)

    def save(self, path: Any) -> None:
        """Write the alignment to a file of arrays and JSON, which :func:`load_alignment` reads.

        A tokenizer of the user's is not kept; give it to :func:`load_alignment` again.
        """
        stored_alignment.save(path, self.model, self.settings, self.text, self.run)

    def _pairs(self, source: Any, target: Any) -> SentencePairs:
        if (source is None) != (target is None):
            raise SpecError("Give both `source` and `target`, or neither of them.")
        return self.text.pairs if source is None else self.text.numbers(source, target)[0]

    def _one(self, pair: Any) -> tuple[list[str], list[str], SentencePairs]:
        """Words of a pair, and the pair as numbers."""
        if isinstance(pair, int | np.integer) and not isinstance(pair, bool):
            check_whole("pair", pair, 0, self.text.pairs.size - 1)
            known = self.text.pairs
            one = SentencePairs([known.source[pair]], [known.target[pair]])
            return *self.text.words(int(pair)), one
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise SpecError(f"`pair` must be a number or (source, target); it is {pair!r:.100}.")
        one, (ours, theirs) = self.text.numbers([pair[0]], [pair[1]])
        return ours[0], theirs[0], one

    def _facts(self) -> list[tuple[str, str]]:
        run_, settings = self.run, self.settings
        tokens = sum(len(s) for s in self.text.pairs.target)
        what = "lower bound" if settings.variational else "log posterior"
        ended = "settled" if run_.settled else f"stopped, {settings.tolerance:g} not reached"
        return [
            ("texts", f"{self.text.pairs.size:,} pairs, {tokens:,} target words"),
            ("vocabularies", f"{self.text.source.size:,} source, {self.text.target.size:,} target"),
            ("method", f"{self.method}, concentration {settings.concentration:.3g}"),
            ("gate", run_.gate.describe()),
            ("iterations", f"{len(run_.trace)} ({ended})"),
            (f"{what} a target word", f"{run_.trace[-1] / tokens:.4f}"),
        ]

    def __repr__(self) -> str:
        lines = [f"  {name}: {value}" for name, value in self._facts()]
        return "\n".join([f"Word alignment, {MODELS[self.model]}", *lines])

    def _repr_html_(self) -> str:
        """What was fitted to what, for notebooks."""
        return html.view(f"Word alignment, {MODELS[self.model]}", html.table([], self._facts()))


def load_alignment(
    path: Any, *, tokenizer: Callable[[str], Iterable[str]] | None = None
) -> Alignment:
    """Read an alignment that ``Alignment.save`` has written.

    Parameters
    ----------
    path : path
        The file.
    tokenizer : callable, optional
        That of the fit, if it had one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FitFileError
        For a file of something else, and one that was made with a tokenizer, if none is given.
    """
    return Alignment(*stored_alignment.load(path, tokenizer))
