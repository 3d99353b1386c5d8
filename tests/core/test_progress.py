"""Progress is shown for long work on a terminal, and for nothing else."""

import time

import pytest

from bayes_moe.core import progress


@pytest.mark.parametrize("shown", [True, False])
def test_short_work_shows_nothing(capfd, shown):
    with progress.progress("work", shown=shown) as tell:
        tell(1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_log_file_gets_no_bar(capfd, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.progress("work", shown=True) as tell:
        tell(1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(capfd, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress.progress("climbing", shown=True) as tell:
        tell(1, 2)
    assert "climbing" in capfd.readouterr().err


def test_a_bar_goes_when_work_fails(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)

    def work():
        with progress.progress("work", shown=True) as tell:
            tell(1, 2)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()


@pytest.mark.parametrize(
    ("shown", "takes", "said"), [(True, 0.3, 1), (True, 0.0, 0), (False, 0.3, 0)]
)
def test_what_takes_long_is_announced(monkeypatch, capsys, shown, takes, said):
    monkeypatch.setattr(progress, "PATIENCE", 0.1)
    with progress.announced("Compiling.", shown=shown):
        time.sleep(takes)
    assert capsys.readouterr().err.count("Compiling.") == said
