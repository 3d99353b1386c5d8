"""Fitted language models: scores of texts, tokens to come, random texts, and who is responsible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import special

from bayes_moe.core import names, seeds
from bayes_moe.core.checks import check_one_of, check_share, check_whole
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.formulas import offset_columns
from bayes_moe.gates import Softmax
from bayes_moe.prediction.predict import predict
from bayes_moe.predictors import Linear
from bayes_moe.results.fit import Fit, posterior_of
from bayes_moe.text.context_table import Scorer, context_columns
from bayes_moe.text.corpus import CHAR, UNKNOWN, Vocabulary, as_documents, stream_of, whole
from bayes_moe.text.token_view import TokenView

if TYPE_CHECKING:
    import pandas as pd

INTERCEPT = "Intercept"
CHUNK = 2**16
"""Rows whose weights are computed at once."""
BLOCKS = 20
"""Blocks of a single text, by which its standard errors are."""


class Estimate(NamedTuple):
    """A number and its standard error."""

    estimate: float
    se: float

    @classmethod
    def ratio(cls, above: Any, below: Any) -> Estimate:
        """Ratio of sums over documents, with the standard error over these (NaN for a single one).

        Parameters
        ----------
        above, below : array
            Numbers (document,), such as bits and tokens.
        """
        over, under = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
        value, count = over.sum() / under.sum(), len(over)
        if count < 2:
            return cls(float(value), float("nan"))
        squares = ((over - value * under) ** 2).sum() * count / (count - 1)
        return cls(float(value), float(np.sqrt(squares) / under.sum()))


@dataclass(frozen=True, eq=False, repr=False)
class FittedLanguageModel:
    """A language model whose gate is fitted; see :func:`bayes_moe.text.language_model`.

    Texts that it is asked about should be others than the corpus: their probabilities are by the
    counts of all of it.

    Attributes
    ----------
    vocabulary : Vocabulary
        Tokens, with their codes.
    scorer : Scorer
        Features and densities by the counts of the corpus.
    fit : Fit
        The mixture of experts, for all functions of fits such as ``bm.summary``.
    """

    vocabulary: Vocabulary
    scorer: Scorer
    fit: Fit

    def __repr__(self) -> str:
        experts = ", ".join(map(str, self.fit.spec.expert_labels))
        return (
            f"FittedLanguageModel ({self.vocabulary.level}), vocabulary "
            f"{self.vocabulary.size:,}, experts {experts}\n{self.fit!r}"
        )

    def scores(
        self, texts: Any, *, expert: str | None = None, blocks: int | None = None
    ) -> pd.DataFrame:
        """Return how many bits each document needs.

        Parameters
        ----------
        texts : str, iterable of str, or mapping of str
            Texts, each a whole document, whose end is predicted too.
        expert : str, optional
            The scores of one expert alone, in place of the mixture: ``"kn6"`` is an interpolated
            Kneser-Ney model of order 6.
        blocks : int, optional
            Of a single document: so many blocks of consecutive tokens in its place, by default
            20. It has one row if this is 1.

        Returns
        -------
        pandas.DataFrame
            ``tokens`` (with the end), ``characters`` of the composed text (NFC), with the end as
            one and spaces with the word after them, and ``bits``: minus the binary log of the
            probability, which is the average over the posterior's draws.
        """
        import pandas as pd

        documents = as_documents(texts, "texts")
        labels = [str(label) for label in self.fit.spec.expert_labels]
        if expert is not None:
            check_one_of("expert", expert, labels)
        alone = None if expert is None else labels.index(expert)
        parts = [self._document(text, alone) for text in documents.values()]
        found = pd.DataFrame(
            [(len(bits), lengths.sum(), bits.sum()) for bits, lengths in parts],
            index=pd.Index(list(documents), name="document"),
            columns=["tokens", "characters", "bits"],
        )
        count = BLOCKS if blocks is None else blocks
        check_whole("blocks", count, 1)
        if len(documents) > 1 or count == 1:
            if blocks is not None and len(documents) > 1:
                raise SpecError("`blocks` is for a single document; there are several.")
            return found
        bits, lengths = parts[0]
        pieces = np.array_split(np.arange(len(bits)), min(count, len(bits)))
        rows = [(len(piece), lengths[piece].sum(), bits[piece].sum()) for piece in pieces]
        return pd.DataFrame(rows, columns=found.columns).rename_axis("block")

    def bits_per_token(
        self, texts: Any, *, expert: str | None = None, blocks: int | None = None
    ) -> Estimate:
        """Return bits a token, and the standard error over documents (or blocks of a single one).

        Those of a ratio of sums: documents count by their length. For the arguments see
        :meth:`scores`.
        """
        found = self.scores(texts, expert=expert, blocks=blocks)
        return Estimate.ratio(found["bits"], found["tokens"])

    def bits_per_character(
        self, texts: Any, *, expert: str | None = None, blocks: int | None = None
    ) -> Estimate:
        """Return bits a character; see :meth:`bits_per_token`.

        A model of words has them too, for texts all of whose words it knows: the spelling of
        others has no probability. Its characters are those of the words and of what is between
        them; which spaces those are is not modelled and needs no bits, and neither does the case of
        letters under ``lowercase=True``. Characters are those of the composed text (NFC).

        Raises
        ------
        DataError
            For a model of words, and texts with words outside its vocabulary.
        """
        documents = as_documents(texts, "texts")
        if self.vocabulary.level != CHAR:
            self._check_known(documents)
        found = self.scores(documents, expert=expert, blocks=blocks)
        return Estimate.ratio(found["bits"], found["characters"])

    def perplexity(
        self, texts: Any, *, expert: str | None = None, blocks: int | None = None
    ) -> Estimate:
        """Return the perplexity, 2 to the power of the bits a token; see :meth:`bits_per_token`.

        It compares only with models of the same tokens and vocabulary.
        """
        bits, se = self.bits_per_token(texts, expert=expert, blocks=blocks)
        value = 2.0**bits
        return Estimate(value, float(value * np.log(2) * se))

    def next(self, prompt: str = "", most: int = 10, ci_prob: float = 0.89) -> pd.DataFrame:
        """Return the likeliest next tokens, with what the posterior leaves open.

        Parameters
        ----------
        prompt : str
            What is before the token; nothing is the start of a document.
        most : int
            Number of tokens.
        ci_prob : float
            Probability inside the intervals.

        Returns
        -------
        pandas.DataFrame
            ``token``, ``probability`` (the mean over draws), ``lower`` and ``upper`` (an
            equal-tailed interval over draws: of the gate alone, for the counts are given; fits by
            "em" and "map" have one draw, so that both are the probability), and the parts of the
            probability that are each expert's.
        """
        import pandas as pd

        check_whole("most", most, 1)
        check_share("ci_prob", ci_prob)
        contexts = self._contexts(prompt)
        weights = self._draws(contexts)
        experts = self.scorer.distributions(contexts)
        mean = weights.mean(axis=0)
        best = np.argsort(-(mean @ experts), kind="stable")[:most]
        tail = 50 * (1 - ci_prob)
        lower, upper = np.percentile(weights @ experts[:, best], [tail, 100 - tail], axis=0)
        columns: dict[str, Any] = {
            "token": [self.vocabulary.tokens[j] for j in best],
            "probability": mean @ experts[:, best],
            "lower": lower,
            "upper": upper,
        }
        labels = self.fit.spec.expert_labels
        columns |= {str(k): w * p[best] for k, w, p in zip(labels, mean, experts, strict=True)}
        return pd.DataFrame(columns)

    def sample(self, n: int, prompt: str = "", *, random_seed: int | None = None) -> str:
        """Return the prompt, as it is, with at most ``n`` random tokens after it.

        Words have a space before them, and most punctuation marks have none; quotation marks have
        one, since it is not known whether they open or close. The text ends where the document's
        end is drawn. The token ``<unk>`` is never drawn: the probabilities of the others are
        divided by their sum.

        Parameters
        ----------
        n : int
            Most tokens.
        prompt : str
            Beginning of the text.
        random_seed : int, optional
            The same seed gives the same text.
        """
        check_whole("n", n, 1)
        rng = np.random.default_rng(seeds.resolve(random_seed))
        contexts, drawn = self._contexts(prompt), []
        for _ in range(n):
            p = self._draws(contexts).mean(axis=0) @ self.scorer.distributions(contexts)
            p[UNKNOWN] = 0.0
            token = int(rng.choice(len(p), p=p / p.sum()))
            if not token:
                break
            drawn.append(self.vocabulary.tokens[token])
            contexts = self.scorer.counts.advance(contexts, token)
        return self.vocabulary.continued(prompt, drawn)

    def responsibilities(self, text: str) -> pd.DataFrame:
        """Return the probability (token, expert) that each token of a text is an expert's.

        Returns
        -------
        pandas.DataFrame
            ``token``, ``probability`` of it, and a column for each expert, which sum to 1.
        """
        import pandas as pd

        (document,) = as_documents(_one(text), "text").values()
        codes = np.append(self.vocabulary.encode(document), 0)
        parts = np.concatenate([w * p for w, p in self._chunks(document)])
        whole_p = parts.sum(axis=1)
        labels = [str(label) for label in self.fit.spec.expert_labels]
        shares = pd.DataFrame(parts / whole_p[:, None], columns=labels)
        shares.insert(0, "token", [self.vocabulary.tokens[j] for j in codes])
        shares.insert(1, "probability", whole_p)
        return shares

    def view(self, text: str) -> TokenView:
        """Return a view of a text for notebooks, its tokens coloured by responsible expert."""
        return TokenView(self.responsibilities(text), self.vocabulary.level)

    def _document(self, text: str, alone: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Bits and characters (token,) of a document, with its end, by one expert or all."""
        if alone is None:
            p = np.concatenate([(w * p).sum(axis=1) for w, p in self._chunks(text)])
        else:
            stream = stream_of([whole(self.vocabulary.encode(text))])
            p = self.scorer.expert(stream, np.flatnonzero(stream.predicted), alone)
        return -np.log2(p), self.vocabulary.lengths(text)

    def _chunks(self, text: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Mean weights and probabilities (token, expert) of pieces of a document."""
        stream = stream_of([whole(self.vocabulary.encode(text))])
        where = np.flatnonzero(stream.predicted)
        columns = [f"log_p_{k}" for k in self.fit.spec.expert_labels]
        for begin in range(0, len(where), CHUNK):
            table = self.scorer.table(stream, where[begin : begin + CHUNK])
            weights = predict(self.fit, table).weights().values
            yield weights, np.exp(table[columns].to_numpy())

    def _check_known(self, documents: Mapping[Any, str]) -> None:
        """Raise :class:`DataError` for documents with words outside the vocabulary."""
        unknown, first = 0, None
        for title, text in documents.items():
            at = np.flatnonzero(self.vocabulary.encode(text) == UNKNOWN)
            if len(at) and first is None:
                first = f"{self.vocabulary.split(text)[at[0]]!r} in the document {title!r}"
            unknown += len(at)
        if unknown:
            raise DataError(
                f"`texts` have {unknown:,} word(s) outside the vocabulary, the first {first}. "
                "Their spelling has no probability under a model of words, so that there are no "
                "bits a character: use bits_per_token or perplexity (among models of the same "
                "vocabulary), a corpus and min_count with all words, or level='char'."
            )

    def _contexts(self, prompt: str) -> list[int]:
        """Contexts of lengths 0, 1, ... after a prompt."""
        if not isinstance(prompt, str):
            raise SpecError(f"`prompt` must be a text; it is {prompt!r:.80}.")
        contexts = self.scorer.counts.start
        for token in self.vocabulary.encode(prompt):
            contexts = self.scorer.counts.advance(contexts, int(token))
        return contexts

    def _draws(self, contexts: list[int]) -> np.ndarray:
        """Weights (draw, expert) after a context."""
        if self._linear is not None:
            terms, coefficients = self._linear
            columns = self.scorer.features([np.array([c]) for c in contexts])
            features = [columns[term][0] if term in columns else 1.0 for term in terms]
            return special.softmax(coefficients @ features, axis=1)
        row = self.scorer.row(contexts)
        weights = predict(self.fit, row).weights(draws=True).isel({names.OBS: 0})
        return weights.values.reshape(-1, weights.shape[-1])

    @cached_property
    def _linear(self) -> tuple[list[str], np.ndarray] | None:
        """Terms and coefficients (draw, expert, term) of a linear softmax gate of columns alone.

        They are the same weights as those of :func:`bayes_moe.predict`, which takes 10 ms a token.
        """
        spec = self.fit.spec
        linear = all(isinstance(p, Linear) for _, p in spec.structure.sites)
        if not (isinstance(spec.gate, Softmax) and linear and spec.variables == ("gate_coef",)):
            return None
        if spec.gate.temperature != 1 or offset_columns(spec.formulas[names.GATE]):
            return None
        coefficients = posterior_of(self.fit.idata)["gate_coef"]
        terms = [str(t) for t in coefficients[coefficients.dims[-1]].values]
        known = {INTERCEPT, *context_columns(self.scorer.counts.order)}
        if not known.issuperset(terms):
            return None
        return terms, coefficients.values.reshape(-1, *coefficients.shape[2:])


def _one(text: Any) -> str:
    """A single text."""
    if not isinstance(text, str):
        raise SpecError(f"`text` must be one text; it is {type(text).__name__}.")
    return text
