"""Observers of how long restoring takes."""

from __future__ import annotations

import pytest

from dagn_pre import timing
from dagn_pre.errors import ImageError
from dagn_pre.restorer import Restorer
from tests.support import photograph


def test_observers_hear_of_each_call_while_they_observe(tiny_weights):
    restorer, image = Restorer(tiny_weights, "cpu", max_quality=None), photograph()
    first, second = [], []
    restorer(image)
    with timing.observed(lambda *lap: first.append(lap)):
        expected = restorer(image)
        with timing.observed(lambda *lap: second.append(lap)):
            pair = restorer([image, image])
        with pytest.raises(ImageError):
            restorer(b"no image")
    restorer(image)
    assert [images for _, images in first] == [1, 2] and [images for _, images in second] == [2]
    assert all(seconds > 0 for seconds, _ in first)
    assert (pair[0] == expected).all()


def test_an_observer_is_gone_after_an_error(tiny_weights):
    laps = []
    with pytest.raises(ZeroDivisionError), timing.observed(lambda *lap: laps.append(lap)):
        raise ZeroDivisionError
    Restorer(tiny_weights, "cpu", max_quality=None)(photograph())
    assert not laps


def test_a_timed_call_is_the_call(monkeypatch):
    clock = iter((10.0, 12.5))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    laps = []

    def pairs(count: int, step: int = 1) -> list:
        """Pairs."""
        return [(i, i + step) for i in range(count)]

    timed = timing.timed(pairs, lambda *lap: laps.append(lap), len)
    assert timed(3, step=2) == pairs(3, 2) and laps == [(2.5, 3)] and timed.__doc__ == "Pairs."
