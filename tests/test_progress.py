"""Progress on a terminal and in a log."""

import io
import sys

import pytest

from dagn_pre import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_lines_at_the_start_and_the_end(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(progress.bar(range(1000), desc="reading", unit="image")) == list(range(1000))
    lines = log.getvalue().splitlines()
    assert "\r" not in log.getvalue() and len(lines) == 2
    assert lines[0].startswith("reading   0% 0/1000 [00:00")
    assert lines[1].startswith("reading 100% 1000/1000 [00:00, 00:00 left")


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.bar(total=3) as shown:
        for _ in range(3):
            shown.update()
    assert [line.split()[1] for line in log.getvalue().splitlines()] == ["0/3", "1/3", "2/3", "3/3"]


@pytest.mark.parametrize("leave", [True, False])
def test_a_terminal_gets_a_bar(monkeypatch, leave):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(progress.bar(range(3), leave=leave))
    assert "\r" in terminal.getvalue() and "|" in terminal.getvalue()


def test_a_disabled_one_says_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    list(progress.bar(range(3), disable=True))
    progress.skip(progress.bar(total=1, disable=True))
    assert not log.getvalue()


def test_what_needed_nothing_does_not_count_as_speed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.bar(total=4) as shown:
        progress.skip(shown)
        shown.update()
        assert (shown.n, shown.format_dict["initial"]) == (2, 1)


def test_a_log_of_unknown_length_counts(monkeypatch):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with progress.bar(unit="image") as shown:
        shown.update(3)
    assert log.getvalue().splitlines()[-1].startswith("3 [00:00, ")
