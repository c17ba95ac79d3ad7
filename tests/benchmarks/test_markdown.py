"""Markdown of reports: a name decides nothing about the table that it stands in."""

from __future__ import annotations

from dagn_pre.benchmarks.markdown import aligned


def test_a_bar_or_a_line_break_in_a_name_stays_in_its_cell():
    head, rule, row = aligned([["image", "dB"], ["a|b\nc.jpg", "1.0"]], numbers_from=1)
    assert row == r"| a\|b c.jpg | 1.0 |"
    assert len(head) == len(rule) == len(row)


def test_numbers_stand_right():
    assert list(aligned([["QF", "PSNR"], ["10", "27"]], numbers_from=1)) == ["| QF | PSNR |", "| -- | ---: |", "| 10 |   27 |"]
