"""A fitted word alignment: translation tables, links, probabilities of pairs, files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import html, seeds
from bayes_moe.core.checks import check_share, check_whole
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.core.progress import progress
from bayes_moe.text.aligned_pairs import links_of, log_likelihoods, responsibilities
from bayes_moe.text.alignment_draws import table_draws
from bayes_moe.text.alignment_em import Cells, Run, Settings
from bayes_moe.text.alignment_tables import (
    drawn_translations,
    rows_of,
    translations,
    word_for_word,
)
from bayes_moe.text.parallel_text import NULL, ParallelText, SentencePairs

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

MODELS = {"ibm1": "IBM model 1", "ibm2": "IBM model 2", "diagonal": "Diagonal model"}
METHODS = ("em", "variational")

Link = tuple[int, int]


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
        counts, so that intervals are too narrow where several source words occur with the same
        target words; :meth:`sampled_table` has it. A word without any expected count (EM) has
        equal probabilities and missing limits.

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
            For a word that the source texts lack, for NULL if ``null_probability=0`` left it out,
            and other settings that cannot be.
        """
        return translations(self.run, self.text, word, n, ci_prob)

    def sampled_table(
        self,
        words: Iterable[str | None],
        n: int = 5,
        *,
        draws: int = 500,
        tune: int = 200,
        ci_prob: float | None = None,
        random_seed: int | None = None,
        progressbar: bool = True,
    ) -> pd.DataFrame:
        """Return translations of some words, with intervals over tables and unknown alignments.

        A Gibbs sampler draws alignments, tables and gate in turn from their joint posterior, from
        the fit on; the prior of tables is that of the fit, that of an estimated probability of
        NULL is uniform. A draw takes somewhat longer than an iteration of EM.

        Parameters
        ----------
        words : list of str or None
            Words of the source texts; None is NULL.
        n : int
            Most translations of each, those of largest mean.
        draws, tune : int
            Numbers of draws that are kept, and of those before them that are not.
        ci_prob : float, optional
            Probability inside the intervals; by default ArviZ's ``rcParams["stats.ci_prob"]``.
        random_seed : int, optional
            The same seed gives the same table.
        progressbar : bool
            Whether to show the progress.

        Returns
        -------
        pandas.DataFrame
            By source and target word: ``probability``, the mean over the draws, ``lower`` and
            ``upper``, equal-tailed, and ``half_difference``, that of the means of both halves of
            the draws: far below the width of the interval, or the chain was too short.

        Raises
        ------
        SpecError
            For words that the source texts lack, for NULL if ``null_probability=0`` left it out,
            and other settings that cannot be.
        """
        check_whole("n", n, 1)
        check_whole("draws", draws, 4)
        check_whole("tune", tune, 0)
        rows = rows_of(self.run, self.text, words)
        rng = np.random.default_rng(seeds.resolve(random_seed))
        cells = Cells.of(self.text)
        with progress("Draws", shown=progressbar) as update:
            chain = table_draws(cells, self.run.table, self.run.gate, tune + draws, rng, update)
            return drawn_translations(self.text, cells.pairs, rows, n, ci_prob, chain, tune)

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
        if threshold is not None:
            check_share("threshold", threshold)
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
