"""Fitted language models and word alignments in files: save and load."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from bayes_moe.core.errors import FitFileError, SpecError
from bayes_moe.text import stored_alignment, stored_language
from bayes_moe.text.fitted_alignment import Alignment
from bayes_moe.text.fitted_language import FittedLanguageModel
from bayes_moe.text.whole_files import DAMAGE


def save(model: FittedLanguageModel | Alignment, path: str | os.PathLike[str]) -> Path:
    """Save a fitted language model or a word alignment to one file, without pickles.

    Parameters
    ----------
    model : FittedLanguageModel or Alignment
        Fits of :func:`bayes_moe.fit` are saved by :func:`bayes_moe.save`.
    path : path
        The file, a ZIP archive of arrays and JSON; one that is there is replaced. A tokenizer of
        the user's is not kept: it is given to :func:`load` again.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SpecError
        For anything else.
    FileNotFoundError
        If there is no such folder.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to save in.")
    if isinstance(model, FittedLanguageModel):
        return stored_language.save(model, target)
    if isinstance(model, Alignment):
        return stored_alignment.save(target, model.model, model.settings, model.text, model.run)
    raise SpecError(
        f"Expected a fitted language model or a word alignment, got {type(model).__name__}: "
        "bm.save is for fits."
    )


def load(
    path: str | os.PathLike[str], *, tokenizer: Callable[[str], Iterable[str]] | None = None
) -> FittedLanguageModel | Alignment:
    """Load what :func:`save` wrote.

    Parameters
    ----------
    path : path
        The file.
    tokenizer : callable, optional
        That of an alignment, if it had one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FitFileError
        For a file of something else or a damaged one, and for an alignment with a tokenizer, if
        none is given.
    SpecError
        For a tokenizer that is no function.
    """
    if tokenizer is not None and not callable(tokenizer):
        raise SpecError(f"`tokenizer` must be a function of a text; it is {tokenizer!r:.100}.")
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"There is no file {str(source)!r}.")
    try:
        with zipfile.ZipFile(source) as archive:
            members = set(archive.namelist())
    except DAMAGE as error:
        raise FitFileError(
            f"{str(source)!r} is no file of bm.text.save, or damaged: {error}"
        ) from error
    if stored_alignment.MEMBER in members:
        return Alignment(*stored_alignment.load(source, tokenizer))
    if tokenizer is not None:
        raise FitFileError(f"{str(source)!r} is a language model, which takes no `tokenizer`.")
    return stored_language.load(source)
