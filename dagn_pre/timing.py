"""How long restoring takes. Nothing is timed unless somebody observes."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

import torch

Observer = Callable[[float, int], object]  # gets seconds and how many images they were for

_observers: list[Observer] = []


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """While the body runs, tell ``observer`` of each call of a :class:`dagn_pre.Restorer` in this process: seconds, images.

    Calls in other processes, such as a data loader's workers, are not seen.
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def observable(call: Callable) -> Callable:
    """A method whose calls :func:`observed` tells of."""

    @functools.wraps(call)
    def wrapper(*args, **kwargs):
        if not _observers:
            return call(*args, **kwargs)

        def tell(seconds: float, images: int) -> None:
            for observer in _observers:
                observer(seconds, images)

        return timed(call, tell)(*args, **kwargs)

    return wrapper


def count(output: object) -> int:
    """How many images an output is of: the length of a list, else one."""
    return len(output) if isinstance(output, list) else 1


def timed(call: Callable, observer: Observer, images: Callable[[object], int] = count) -> Callable:
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
