"""Topics of short texts: a mixture of two classifiers by topic, beside multinomial regression.

``python -m benchmarks.topics DIR`` reads the text files of Debian's packages ``fortunes`` and
``fortunes-min`` (a topic a file, texts divided by lines of ``%``), those with 40 texts or more.
Experts are known up to their levels: log probabilities of two models of sparse words, multinomial
logistic regression and naive Bayes, each from the rows of other inner folds, are offsets.
The gate has components and the length of the text. What is chosen is chosen within fitted rows.

References
----------
Wolpert, D. H. (1992). Stacked generalization. Neural Networks, 5(2), 241-259.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import MultinomialNB

import bayes_moe as bm

LEAST, FOLDS, INNER, COMPONENTS = 40, 5, 3, 20
PENALTIES = (5.0, 10.0)
TEMPERATURES = (1.5, 2.0, 3.0, 4.0)
"""What log probabilities of naive Bayes are divided by, which takes words for independent."""


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Texts and topics, each text once."""
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix or not path.is_file():
            continue
        for text in re.split(r"\n%\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            if len(text.strip("%\n ")) > 20:
                found.setdefault(text.strip("%\n "), path.name)
    texts, topics = np.array(list(found), dtype=object), np.array(list(found.values()))
    names, counts = np.unique(topics, return_counts=True)
    enough = np.isin(topics, names[counts >= LEAST])
    return texts[enough], topics[enough]


def inner_folds(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds within the fitted rows."""
    return list(StratifiedKFold(INNER, shuffle=True, random_state=1).split(y, y))


def loss(log_p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Minus the log probability (obs,) of the topic."""
    return -log_p[np.arange(len(y)), y]


def regression(x: Any, y: np.ndarray, c: float) -> Any:
    """Multinomial logistic regression."""
    return LogisticRegression(C=c, max_iter=200, tol=1e-3).fit(x, y)


def bayes(x: Any, y: np.ndarray, new: Any) -> np.ndarray:
    """Log joint probabilities (obs, topic) of naive Bayes on the presence of words."""
    return MultinomialNB(alpha=0.2).fit(x > 0, y).predict_joint_log_proba(new > 0)


def scores(x: Any, y: np.ndarray, new: Any) -> tuple[list[np.ndarray], float]:
    """Log probabilities (obs, topic) of two models for fitted rows, then new ones, and ``C``."""
    count = y.max() + 1
    by_c = {c: np.empty((len(y), count)) for c in PENALTIES}
    nb = np.empty((len(y), count))
    for some, held in inner_folds(y):
        for c, into in by_c.items():
            into[held] = regression(x[some], y[some], c).predict_log_proba(x[held])
        nb[held] = bayes(x[some], y[some], x[held])
    c = min(PENALTIES, key=lambda c: loss(by_c[c], y).mean())
    heat = min(TEMPERATURES, key=lambda t: loss(log_softmax(nb / t, axis=1), y).mean())
    of_new = regression(x, y, c).predict_log_proba(new)
    nb_new = log_softmax(bayes(x, y, new) / heat, axis=1)
    return [by_c[c], log_softmax(nb / heat, axis=1), of_new, nb_new], c


def columns(lr: np.ndarray, nb: np.ndarray, svd: np.ndarray, length: np.ndarray) -> dict[str, Any]:
    """A table of the package."""
    table = {f"lr{j}": v for j, v in enumerate(lr.T)} | {f"nb{j}": v for j, v in enumerate(nb.T)}
    return table | {"length": length} | {f"svd[{j}]": v for j, v in enumerate(svd.T)}


def offset(stem: str, count: int) -> str:
    """The term of known log probabilities."""
    return f"offset({', '.join(f'{stem}{j}' for j in range(count))})"


def specs(count: int) -> dict[str, Any]:
    """One expert, two experts, and two with levels of their own, by name."""
    lr, nb = (f"topic ~ 1 + {offset(stem, count)}" for stem in ("lr", "nb"))
    level = {"p_coef": bm.Prior("ZeroSumNormal", sigma=0.3)}
    both = {f"{name}_p_coef": level["p_coef"] for name in ("regression", "bayes")}
    sd = [2.0, 1.0] + [5.0] * COMPONENTS
    gate = {"gate_coef": bm.Prior("ZeroSumNormal", sigma=sd)}
    one = bm.mixture_of_experts(lr, experts=1, family="categorical", priors=level)
    experts = [
        bm.Expert(lr, family="categorical", name="regression"),
        bm.Expert(nb, family="categorical", name="bayes"),
    ]
    softmax = bm.gates.Softmax("~ length + svd")
    two = bm.MixtureOfExperts(softmax, experts, priors=both | gate)
    return {"one expert": one, "two experts": two}


def one_fold(texts: np.ndarray, y: np.ndarray, rows: Any) -> tuple[Any, Any]:
    """Log probabilities (obs, topic) of the new rows by model, and CPU seconds."""
    fitted, new = rows
    vectorizer = TfidfVectorizer(min_df=3, sublinear_tf=True)
    x, x_new = vectorizer.fit_transform(texts[fitted]), vectorizer.transform(texts[new])
    svd = TruncatedSVD(COMPONENTS, random_state=0)
    z, z_new = svd.fit_transform(x), svd.transform(x_new)
    start = time.process_time()
    (lr, nb, lr_new, nb_new), c = scores(x, y[fitted], x_new)
    seconds = {f"scores (C = {c:g})": time.process_time() - start}
    length = [np.log1p(np.diff(m.indptr)) for m in (x, x_new)]
    length = [(v - length[0].mean()) / length[0].std() for v in length]
    table = columns(lr, nb, z, length[0]) | {"topic": y[fitted]}
    new_table = columns(lr_new, nb_new, z_new, length[1])
    found = {"logistic regression": lr_new, "naive Bayes": nb_new}
    for name, spec in specs(lr.shape[1]).items():
        start = time.process_time()
        fit = bm.fit(spec, table, "em", random_seed=0, restarts=1, moves=0, progressbar=False)
        found[name] = np.log(bm.predict(fit, new_table).probabilities().values)
        seconds[name] = time.process_time() - start
    return found, seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", type=int, default=FOLDS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    texts, topics = read(given.folder)
    names, y = np.unique(topics, return_inverse=True)
    print(f"{len(texts)} texts of {len(names)} topics")
    losses: dict[str, list[np.ndarray]] = {}
    right: dict[str, list[np.ndarray]] = {}
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(texts, y))
    for rows in folds[: given.folds]:
        found, seconds = one_fold(texts, y, rows)
        for name, log_p in found.items():
            losses.setdefault(name, []).append(loss(log_p, y[rows[1]]))
            right.setdefault(name, []).append(log_p.argmax(axis=1) == y[rows[1]])
        means = {name: round(float(v[-1].mean()), 4) for name, v in losses.items()}
        print(means, {name: round(s, 1) for name, s in seconds.items()}, flush=True)
    joined = {name: np.concatenate(v) for name, v in losses.items()}
    lines = []
    for name, values in joined.items():
        d = values - joined["logistic regression"]
        error = d.std() / np.sqrt(len(d))
        line = {"model": name, "accuracy": np.concatenate(right[name]).mean()}
        line |= {"log loss": values.mean(), "less regression": d.mean(), "SE": error}
        lines.append(line)
    print(pd.DataFrame(lines).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
