"""Weights of side information: which restorer they condition, how a file names them, and how they become symbols and maps.

A file of them is a weights file (:mod:`dagn_pre.weights`) of architecture ``side_information``; its card's ``trunk`` is the
fingerprint of the restorer that they were trained on, ``lambda_rate`` the trade of rate against distortion.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dagn_pre import images, weights
from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.networks.side_information import CELL, Maps, SideInformation
from dagn_pre.side_information import coder
from dagn_pre.side_information.segment import IDENTIFIER, Layout, Message, SegmentError

FOLDER = Path(__file__).parent.parent / "weights" / "side_information"


@dataclass(frozen=True, eq=False)
class Adapter:
    """Side information for one restorer, ready to use; on the CPU.

    Attributes:
        network: in eval mode, float32.
        identity: the four bytes that name it in files.
        trunk: fingerprint of the restorer.
        lambda_rate: squared levels of 0..255 per bit and symbol.
    """

    network: SideInformation
    identity: bytes
    trunk: str
    lambda_rate: float

    @cached_property
    def symbol_model(self) -> coder.SymbolModel:
        return coder.SymbolModel(self.network.context)

    @torch.inference_mode()
    def maps(self, symbols: np.ndarray, device: torch.device) -> Maps:
        """(B, rows, columns) symbols -> what the restorer's ``condition`` takes, float32 on that device."""
        with torch.autocast("cpu", enabled=False):
            maps = self.network.maps(torch.from_numpy(symbols))
        return [tuple(part if part is None else part.to(device) for part in pair) for pair in maps]

    def message(self, symbols: np.ndarray) -> Message:
        """(rows, columns) integers of 0..15 -> what a file carries."""
        return Message(self.identity, *symbols.shape, coder.encode(self.symbol_model, symbols))

    def symbols(self, message: Message, height: int, width: int) -> np.ndarray:
        """Inverse of :meth:`message`, (rows, columns) uint8, for an image of that size.

        Raises:
            SegmentError: a message of another size, or symbols that cannot be decoded.
        """
        if (message.rows, message.columns) != grid(height, width):
            size = f"{message.columns}x{message.rows} symbols, where {width}x{height} pixels need"
            raise SegmentError(f"side information of {size} {'x'.join(map(str, grid(height, width)[::-1]))}")
        try:
            return coder.decode(self.symbol_model, message.coded, message.rows, message.columns)
        except coder.SymbolError as error:
            raise SegmentError(f"side information that cannot be read: {error}") from error


def grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of symbols for an image."""
    return -(-height // CELL), -(-width // CELL)


@functools.lru_cache(maxsize=16)
def _load(path: Path, modified: int) -> Adapter:
    network, metadata = weights.load(path)
    if not isinstance(network, SideInformation):
        raise WeightsError(f"{path}: weights of a restorer, not of side information")
    identity = hashlib.sha256(path.read_bytes()).digest()[:4]
    try:
        return Adapter(network, identity, metadata.card["trunk"], float(metadata.card["lambda_rate"]))
    except (LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its card does not say what it was trained for ({error})") from error


def load(path: str | Path) -> Adapter:
    """The adapter of a weights file; loaded once in a process.

    Raises:
        WeightsError: missing, damaged, or weights of a restorer.
    """
    path = Path(path)
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


def shipped(trunk: str) -> list[Adapter]:
    """Those that come with this package for the restorer of that fingerprint, by rising lambda."""
    found = [load(path) for path in sorted(FOLDER.glob("*.safetensors"))]
    return sorted((one for one in found if one.trunk == trunk), key=lambda one: one.lambda_rate)


def matching(trunk: str, name: str, path: str | Path | None = None, lambda_rate: float | None = None) -> Adapter:
    """The adapter of a file, or of the shipped ones that with the nearest lambda (by ratio; None: the middle one).

    Args:
        trunk, name: fingerprint and name of the restorer.

    Raises:
        UsageError: there is none, or ``lambda_rate`` is not positive.
        WeightsError: a file that is missing, damaged, or of another restorer.
    """
    if path is not None:
        found = load(path)
        if found.trunk != trunk:
            raise WeightsError(f"{path}: side information for another restorer than {name!r}")
        return found
    known = shipped(trunk)
    if not known:
        raise UsageError(f"no side information for model {name!r} is here; train it with dagn-pre train, and pass its weights")
    if lambda_rate is None:
        return known[len(known) // 2]
    if not lambda_rate > 0:
        raise UsageError(f"lambda must be positive, not {lambda_rate}")
    return min(known, key=lambda one: abs(math.log(one.lambda_rate / lambda_rate)))


def carries(image: Image.Image) -> bool:
    """Whether the file of an opened image has side information in it, of whatever version."""
    return any(name == "APP15" and data.startswith(IDENTIFIER) for name, data in getattr(image, "applist", ()))


def digest(jpeg: bytes) -> str | None:
    """SHA-256 of a file's side information, hexadecimal; None where there is none, or for another format."""
    try:
        parts = Layout.of(jpeg).parts
    except SegmentError:
        return None
    return hashlib.sha256(b"".join(parts)).hexdigest() if parts else None


def read(jpeg: bytes, known: Mapping[bytes, Adapter], height: int, width: int) -> tuple[Adapter, np.ndarray] | None:
    """The side information of a JPEG file of that size, decoded: (adapter, (rows, columns) uint8); None where there is none.

    Raises:
        SegmentError: it is damaged, of another picture, size or version, or for weights that are not among ``known``.
    """
    layout = Layout.of(jpeg)
    message = layout.message()
    if message is None:
        return None
    if (layout.height, layout.width) != (height, width):
        raise SegmentError(f"side information of {layout.width}x{layout.height} pixels, not {width}x{height}")
    if message.model not in known:
        raise SegmentError(f"side information for weights {message.model.hex()}, which are not here")
    adapter = known[message.model]
    return adapter, adapter.symbols(message, height, width)


def describe(path: str | Path, known: Mapping[bytes, Adapter]) -> dict | None:
    """What a file's side information says of itself, for people; None where there is none.

    Returns:
        {"bytes" (of all its segments, markers included), "version", "rows", "columns", "weights" (hexadecimal), "lambda",
        "error" (why it cannot be used, or None)}; what cannot be read is None.

    Raises:
        ImageError: a file that cannot be read.
    """
    opened = images.open_image(path)
    if not carries(opened):
        return None
    row: dict = dict.fromkeys(("bytes", "version", "rows", "columns", "weights", "lambda", "error"))
    try:
        jpeg = Path(path).read_bytes()
        layout = Layout.of(jpeg)
        row.update(bytes=layout.bytes, version=layout.version)
        message = layout.message()
        row.update(rows=message.rows, columns=message.columns, weights=message.model.hex())
        adapter, _ = read(jpeg, known, opened.height, opened.width)
        row["lambda"] = adapter.lambda_rate
    except SegmentError as error:
        row["error"] = str(error)
    return row
