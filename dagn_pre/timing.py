"""How long restoring takes. Nothing is timed unless somebody observes."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

Observer = Callable[[float, int], object]  # gets seconds and how many images they were for

_observers: list[Observer] = []


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """While the body runs, tell ``observer`` of each call of a :class:`dagn_pre.Restorer` in this process: seconds, images.

    Images that were read from a cache are not counted. Calls in other processes, such as a data loader's workers, are not seen.
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def observable(images: Callable[[Any], int]) -> Callable[[Callable], Callable]:
    """Decorates a method whose calls :func:`observed` tells of; ``images`` tells from its output how many it was for."""

    def decorate(call: Callable) -> Callable:
        @functools.wraps(call)
        def wrapper(*args, **kwargs):
            if not _observers:
                return call(*args, **kwargs)

            def tell(seconds: float, count: int) -> None:
                for observer in _observers:
                    observer(seconds, count)

            return timed(call, tell, images)(*args, **kwargs)

        return wrapper

    return decorate


def timed(call: Callable, observer: Observer, images: Callable[[Any], int]) -> Callable:
    """``call``, and ``observer`` is told of each of its calls; ``images`` tells from the output how many it was for."""

    @functools.wraps(call)
    def wrapper(*args, **kwargs):
        synchronize()
        start = time.perf_counter()
        output = call(*args, **kwargs)
        synchronize()
        observer(time.perf_counter() - start, images(output))
        return output

    return wrapper


def synchronize() -> None:
    """Wait for the GPU, if one is in use, so that times are of the work and not of its queueing."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
