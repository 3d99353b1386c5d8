"""Language models: n-grams of several orders as experts, mixed by a gate that reads the context."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.formulas import used_columns
from bayes_moe.families.given import Given
from bayes_moe.fitting import fit as fit_model
from bayes_moe.gates import Gate, Softmax
from bayes_moe.model.expert import Expert
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.text.context_table import COUNT, TOKEN, Scorer, context_columns, joined
from bayes_moe.text.corpus import (
    CHAR,
    Part,
    Stream,
    Vocabulary,
    as_documents,
    check_level,
    folds_of,
    stream_of,
    whole,
)
from bayes_moe.text.fitted_language import FittedLanguageModel
from bayes_moe.text.ngrams import Counts, count_ngrams, distinct
from bayes_moe.text.smoothing import Ngram

if TYPE_CHECKING:
    import pandas as pd


def language_model(
    corpus: Any,
    order: int = 6,
    *,
    experts: Sequence[Ngram] | None = None,
    level: str = CHAR,
    gate: Any = None,
    folds: int = 5,
    min_count: int | None = None,
    lowercase: bool = False,
    priors: Mapping[str, Any] | None = None,
) -> LanguageModel:
    r"""Return a language model: a mixture of n-grams whose weights depend on the context.

    The probability of a token :math:`w` after a context :math:`h` is

    .. math:: p(w \mid h) = \sum_{k=1}^{K} \pi_k(x(h))\, p_k(w \mid h),
        \qquad \pi(x) = \mathrm{softmax}(B x).

    The experts :math:`p_k` are smoothed n-grams, all computed from counts, so that they have no
    parameters; what is fitted is the gate. Its features :math:`x(h)` say how well the context is
    known: for each length of it how often it occurs, how many tokens follow it, and what part of
    the probability Kneser-Ney smoothing leaves to the shorter one. A gate ``"~ 1"`` has fixed
    weights: linear interpolation as of Jelinek and Mercer.

    Parameters
    ----------
    corpus : str, iterable of str, or mapping of str
        One text, documents, or documents by title (also as a pandas Series with an index of texts).
        Texts are composed first (Unicode NFC).
    order : int
        Highest order: the predicted token and ``order - 1`` before it.
    experts : sequence of Ngram, optional
        By default ``bm.text.Ngram(k)`` for ``k = 1, ..., order``.
    level : {"char", "word"}
        Whether tokens are characters, or words and punctuation marks.
    gate : str or Gate, optional
        Formula of a softmax gate, or a gate, over the columns ``count_1``, ``followers_1``,
        ``backoff_1``, ``count_2``, ... of :meth:`LanguageModel.table` (logs of one plus the counts,
        and shares). By default all of them; ``"~ 1"`` for fixed weights.
    folds : int
        The gate is fitted to tokens whose counts were left out, since all weight would be
        the highest order's otherwise: documents are put into so many folds, and those of each have
        their rows from the counts of the others. Fewer documents than folds are cut into pieces.
    min_count : int, optional
        Tokens that occur less often are one token, ``<unk>``; by default 1 for characters, 2 for
        words. Perplexities compare only between models of the same vocabulary.
    lowercase : bool
        Whether texts are changed to lower case.
    priors : mapping, optional
        Priors of the gate, as of :class:`bayes_moe.MixtureOfExperts`.

    Returns
    -------
    LanguageModel
        To be fitted: ``language_model(corpus).fit(random_seed=1)``.

    Raises
    ------
    DataError
        For documents that are empty or no text, or a corpus too short for the folds.
    SpecError
        For settings out of range, experts of a higher order, or two of the same name, and a gate of
        other columns than the context's.

    References
    ----------
    Jelinek and Mercer (1980). Interpolated estimation of Markov source parameters from sparse data.
    Pattern Recognition in Practice, 381-397.

    Examples
    --------
    >>> import bayes_moe as bm
    >>> lm = bm.text.language_model(["to be or not to be", "to see or not to see"] * 5, order=3)
    >>> lm.spec.expert_labels
    ['kn1', 'kn2', 'kn3']
    """
    check_level(level)
    check_whole("order", order, 2 if experts is None else 1)
    check_whole("folds", folds, 2)
    least = (1 if level == CHAR else 2) if min_count is None else min_count
    check_whole("min_count", least, 1)
    if not isinstance(lowercase, bool):
        raise SpecError(f"`lowercase` must be True or False; it is {lowercase!r}.")
    documents = as_documents(corpus)
    vocabulary = Vocabulary.of(documents, level, least, lowercase)
    codes = tuple(vocabulary.encode(text) for text in documents.values())
    if sum(map(len, codes)) < folds:
        raise DataError(f"The corpus has fewer tokens than folds ({folds}).")
    chosen = checked_experts(experts, order)
    spec = MixtureOfExperts(
        _gate(gate, order),
        [
            Expert(TOKEN, Given(discrete=True), name=e.name, log_density=f"log_p_{e.name}")
            for e in chosen
        ],
        priors=priors,
        weights=COUNT,
    )
    _check_gate(spec, order)
    return LanguageModel(vocabulary, codes, order, chosen, folds, spec)


def checked_experts(experts: Any, order: int) -> tuple[Ngram, ...]:
    """Experts of a language model, or the n-grams of all orders."""
    if experts is None:
        return tuple(Ngram(k) for k in range(1, order + 1))
    if isinstance(experts, str) or not isinstance(experts, Iterable):
        raise SpecError(
            f"`experts` must be a list of bm.text.Ngram(...); it is {experts!r:.80}. The experts "
            "of all orders up to `order` are the default."
        )
    chosen = tuple(experts)
    for expert in chosen:
        if not isinstance(expert, Ngram):
            raise SpecError(f"`experts` must be bm.text.Ngram(...); one is {expert!r:.80}.")
        if expert.order > order:
            raise SpecError(
                f"An expert has the order {expert.order}, above order={order} of the model."
            )
    labels = [expert.name for expert in chosen]
    if len(chosen) < 2:
        raise SpecError(
            "A language model needs at least two experts, between which its gate chooses; the "
            "scores of a single one are `scores(texts, expert=...)` of a model that has it."
        )
    if len({*labels}) < len(labels):
        raise SpecError(
            f"`experts` must be n-grams that differ in name, which is smoothing and order; they "
            f"are {', '.join(labels)}. Give Ngram(..., label=...) to one of them."
        )
    return chosen


def _gate(gate: Any, order: int) -> Gate:
    """The gate of an argument: by default with all features of the context."""
    if gate is None:
        return Softmax(f"~ {' + '.join(context_columns(order)) or '1'}")
    if isinstance(gate, str):
        return Softmax(gate)
    if not isinstance(gate, Gate):
        raise SpecError(f"`gate` must be a formula or a gate of bm.gates; it is {gate!r:.80}.")
    return gate


def _check_gate(spec: MixtureOfExperts, order: int) -> None:
    """Raise :class:`SpecError` unless the gate's formulas use columns of the context alone.

    A gate of the predicted token's columns would make probabilities that do not sum to one.
    """
    valid = context_columns(order)
    try:
        used_columns([spec.formulas[stem] for stem in spec.gate.formulas], valid)
    except DataError as error:
        columns = ", ".join(valid) or "none, since order=1 has no context: write '~ 1'"
        raise SpecError(
            f"The gate of a language model may use the columns of the context alone, none of the "
            f"predicted token. Valid: {columns}. {error}"
        ) from error


@dataclass(frozen=True, eq=False, repr=False)
class LanguageModel:
    """A language model that is not fitted yet; see :func:`language_model`.

    Attributes
    ----------
    vocabulary : Vocabulary
        Tokens, with their codes.
    documents : tuple of array
        Codes (token,) of each document.
    order : int
        Highest order.
    experts : tuple of Ngram
        The experts.
    folds : int
        Number of folds.
    spec : MixtureOfExperts
        The model as an ordinary mixture of experts, of the columns of :meth:`table`.
    """

    vocabulary: Vocabulary
    documents: tuple[np.ndarray, ...]
    order: int
    experts: tuple[Ngram, ...]
    folds: int
    spec: MixtureOfExperts

    def __repr__(self) -> str:
        size = sum(map(len, self.documents))
        experts = ", ".join(expert.name for expert in self.experts)
        return (
            f"LanguageModel of {size:,} tokens ({self.vocabulary.level}) in {len(self.documents)} "
            f"document(s), vocabulary {self.vocabulary.size:,}, experts {experts}"
        )

    @cached_property
    def counts(self) -> Counts:
        """Counts of the whole corpus."""
        return self.count([whole(codes) for codes in self.documents])

    @cached_property
    def scorer(self) -> Scorer:
        """Features and densities by the counts of the whole corpus."""
        return Scorer(self.counts, self.experts)

    def table(self, texts: Any = None) -> pd.DataFrame:
        """Return the rows of the mixture: one a token, with features and log densities.

        Parameters
        ----------
        texts : str, sequence of str, or mapping of str, optional
            Texts, whose rows are in their order, by the counts of the corpus. By default the rows
            that the gate is fitted to: those of the corpus, by the counts of the other folds. Of
            these, equal ones (of the same fold and the same n-gram of the highest order) are one.

        Returns
        -------
        pandas.DataFrame
            ``token`` (its code), ``occurrences`` (how many tokens a row stands for), ``count_j``,
            ``followers_j`` and ``backoff_j`` of the context of length ``j``, and ``log_p_NAME`` of
            each expert (natural logs).
        """
        if texts is not None:
            stream = self.stream(texts)
            return self.scorer.table(stream, np.flatnonzero(stream.predicted))
        folds = folds_of(self.documents, self.folds, self.order - 1)
        tables = []
        for j, fold in enumerate(folds):
            others = [part for i, other in enumerate(folds) if i != j for part in other]
            stream = stream_of(fold)
            where, occurrences = distinct(stream, self.order)
            scorer = Scorer(self.count(others), self.experts)
            tables.append(scorer.table(stream, where, occurrences))
        return joined(tables)

    def stream(self, texts: Any) -> Stream:
        """Codes of texts, each a whole document."""
        documents = as_documents(texts, "texts")
        return stream_of([whole(self.vocabulary.encode(text)) for text in documents.values()])

    def fit(
        self, method: Any = "em", *, random_seed: int | None = None, **settings: Any
    ) -> FittedLanguageModel:
        """Fit the gate to the tokens of the corpus, each by the counts of the other folds.

        Parameters
        ----------
        method : str or method
            As of :func:`bayes_moe.fit`: "em" (the posterior's mode), "map", "laplace", "nuts", ...
        random_seed : int, optional
            The same seed gives the same fit.
        **settings
            Settings of the method.

        Returns
        -------
        FittedLanguageModel
            With ``perplexity``, ``next``, ``sample``, ``responsibilities`` and ``view``; its
            ``fit`` is the fit of :attr:`spec` to :meth:`table`.

        Raises
        ------
        DataError
            For a corpus so short that columns of the gate are equal or constant.
        """
        if method == "em":
            settings = {"restarts": 1} | settings
        table = self.table()
        try:
            found = fit_model(self.spec, table, method, random_seed=random_seed, **settings)
        except DataError as error:
            if self.spec.gate != _gate(None, self.order) or f"{names.GATE!r}" not in str(error):
                raise
            raise DataError(
                f"The corpus is too short for the default gate, which uses all columns of the "
                f"context: some are equal or constant in its {len(table)} rows. Give gate='~ 1' "
                f"(fixed weights), gate='~ count_1', or a longer corpus. {error}"
            ) from error
        return FittedLanguageModel(self.vocabulary, self.scorer, found)

    def count(self, parts: Sequence[Part]) -> Counts:
        """Counts of some parts of the corpus."""
        return count_ngrams(stream_of(parts), self.order, self.vocabulary.size)
