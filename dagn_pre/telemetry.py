"""Libraries that send word of their use to their makers: here they do not."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

SENDER = "openvino_telemetry"  # of OpenVINO and NNCF, which do without where it is not installed


@contextlib.contextmanager
def untold() -> Iterator[None]:
    """OpenVINO and NNCF are to be imported in here: they find nothing to send word with.

    They would fork this process to send it, which may wait for ever for what a thread of this one held, and this one for it at
    its end. Where a program has imported them before, they stay as they are.
    """
    before = sys.modules.get(SENDER)
    sys.modules[SENDER] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        yield
    finally:
        if before is None:
            del sys.modules[SENDER]
        else:
            sys.modules[SENDER] = before
