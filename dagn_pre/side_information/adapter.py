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
from dagn_pre.errors import ImageError, UsageError, WeightsError
from dagn_pre.networks.side_information import CELL, SideInformation
from dagn_pre.protocol import Maps
from dagn_pre.side_information import coder
from dagn_pre.side_information.segment import IDENTIFIER, Layout, Message, SegmentError

FOLDER = weights.SHIPPED / "side_information"
TRUNK = "dagn-s-psnr"  # the restorer that the shipped ones are for


@dataclass(frozen=True, eq=False)
class Adapter:
    """Side information for one restorer, ready to use; on the CPU.

    Attributes:
        network: in eval mode, float32.
        identity: the four bytes that name it in files.
        trunk: fingerprint of the restorer.
        lambda_rate: what a bit of every symbol had to win in training; its unit is the stage's.
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
        return [(factor.to(device), None if shift is None else shift.to(device)) for factor, shift in maps]

    def message(self, symbols: np.ndarray) -> Message:
        """(rows, columns) integers of 0..15 -> what a file carries."""
        rows, columns = symbols.shape
        return Message(self.identity, rows, columns, coder.encode(self.symbol_model, symbols))

    def decoded(self, message: Message, height: int, width: int) -> np.ndarray:
        """Inverse of :meth:`message`, (rows, columns) uint8, for an image of that size.

        Raises:
            SegmentError: a message of another size, or symbols that cannot be decoded.
        """
        rows, columns = -(-height // CELL), -(-width // CELL)
        if (message.rows, message.columns) != (rows, columns):
            found = f"{message.columns}x{message.rows} symbols"
            raise SegmentError(f"side information of {found}, where {width}x{height} pixels need {columns}x{rows}")
        try:
            return coder.decode(self.symbol_model, message.coded, rows, columns)
        except coder.SymbolError as error:
            raise SegmentError(f"side information that cannot be read: {error}") from error


def check_weights(path: str | Path) -> dict:
    """The card of a file of side information's weights, which is not loaded.

    Raises:
        WeightsError: missing, damaged, weights of a restorer, or a card that does not say what they were trained for.
    """
    metadata = weights.read_metadata(Path(path))
    if metadata.config.architecture != "side_information":
        raise WeightsError(f"{path}: weights of a restorer, not of side information")
    card = metadata.card
    rate = card.get("lambda_rate")
    if not isinstance(card.get("trunk"), str) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise WeightsError(f"{path}: its card does not say for which restorer and lambda it was trained")
    return card


def identity(path: Path) -> bytes:
    """The four bytes that name a weights file in files that it was used for."""
    return hashlib.sha256(path.read_bytes()).digest()[:4]


@functools.lru_cache(maxsize=16)
def _load(path: Path, modified: int) -> Adapter:
    card = check_weights(path)
    network, _ = weights.load(path)
    assert isinstance(network, SideInformation)  # as its card says
    return Adapter(network, identity(path), card["trunk"], float(card["lambda_rate"]))


def load(path: str | Path) -> Adapter:
    """The adapter of a weights file; loaded once in a process.

    Raises:
        WeightsError: as :func:`check_weights`, or tensors that do not fit.
    """
    path = Path(path)
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


def own(path: str | Path, trunk: str, name: str) -> Adapter:
    """:func:`load`, for the restorer of that fingerprint and name.

    Raises:
        WeightsError: also where it was trained for another one.
    """
    found = load(path)
    if found.trunk != trunk:
        raise WeightsError(f"{path}: side information for another restorer than {name!r}")
    return found


def shipped(trunk: str) -> list[Adapter]:
    """Those that come with this package for the restorer of that fingerprint, by rising lambda."""
    found = [load(path) for path in sorted(FOLDER.glob("*.safetensors")) if check_weights(path)["trunk"] == trunk]
    return sorted(found, key=lambda one: one.lambda_rate)


def nearest(trunk: str, name: str, lambda_rate: float | None = None) -> Adapter:
    """Of the shipped ones that with the nearest lambda, by ratio; None: the middle one.

    Raises:
        UsageError: there is none for that restorer, or ``lambda_rate`` is not positive.
    """
    if lambda_rate is not None and not 0 < lambda_rate < math.inf:
        raise UsageError(f"lambda must be positive, not {lambda_rate}")
    known = shipped(trunk)
    if not known:
        raise UsageError(f"no side information for model {name!r} is here; train it with dagn-pre train, and pass its weights")
    if lambda_rate is None:
        return known[len(known) // 2]
    return min(known, key=lambda one: abs(math.log(one.lambda_rate / lambda_rate)))


Known = Mapping[bytes, Adapter]


def known(option: bool | str | Path, trunk: str, name: str) -> dict[bytes, Adapter]:
    """What a restorer knows of side information, by the bytes that name it: ``option`` is that of ``Restorer``."""
    if option is False:
        return {}
    found = shipped(trunk) if option is True else [own(option, trunk, name)]
    return {one.identity: one for one in found}


# -- in files -------------------------------------------------------------------------------------------------------------


def carries(image: Image.Image) -> bool:
    """Whether the file of an opened image seems to have side information in it, without reading it again."""
    return any(name == "APP15" and data.startswith(IDENTIFIER) for name, data in getattr(image, "applist", ()))


def may_carry(data: bytes) -> bool:
    """Whether bytes of whatever format are worth parsing for side information."""
    return IDENTIFIER in data and data.startswith(b"\xff\xd8")


def read(jpeg: bytes, known: Known, height: int, width: int) -> tuple[Adapter, np.ndarray] | None:
    """The side information of a JPEG file of that size, decoded: (adapter, (rows, columns) uint8); None where there is none.

    Raises:
        SegmentError: it is damaged, of another picture, size or version, or for weights that are not among ``known``.
    """
    if not may_carry(jpeg):
        return None
    layout = Layout.of(jpeg)
    message = layout.message()
    if message is None:
        return None
    if (layout.height, layout.width) != (height, width):
        raise SegmentError(f"side information of {layout.width}x{layout.height} pixels, not {width}x{height}")
    if message.model not in known:
        if message.model in map(identity, FOLDER.glob("*.safetensors")):
            raise SegmentError(f"side information for {TRUNK}, another restorer; take that one (restore --for eyes)")
        raise SegmentError(f"side information for weights {message.model.hex()}, which are not here")
    adapter = known[message.model]
    return adapter, adapter.decoded(message, height, width)


def read_for_array(jpeg: bytes, known: Known, height: int, width: int) -> tuple[Adapter, np.ndarray] | None:
    """:func:`read`, of the file that an array was decoded from.

    Raises:
        SegmentError: also where EXIF turns the picture, since the array then is turned, or may be.
    """
    found = read(jpeg, known, height, width)
    if found is not None and images.is_turned(_opened(jpeg)):
        raise SegmentError("side information of a file that EXIF turns, where the array has been turned")
    return found


def _opened(jpeg: bytes) -> Image.Image:
    try:
        return images.open_image(jpeg)
    except ImageError as error:
        raise SegmentError(f"side information of a file that cannot be opened ({error})") from error


def describe(opened: Image.Image, path: Path, known: Known) -> dict | None:
    """What the side information of an opened file says of itself, for people; None where there is none.

    Returns:
        {"bytes" (of all its segments, markers included), "version", "rows", "columns", "weights" (hexadecimal), "lambda",
        "error" (why it cannot be used, or None)}; what cannot be read is None.

    Raises:
        ImageError: a file that cannot be read.
    """
    if not carries(opened):
        return None
    row: dict = dict.fromkeys(("bytes", "version", "rows", "columns", "weights", "lambda", "error"))
    try:
        jpeg = path.read_bytes()
        layout = Layout.of(jpeg)
        row.update(bytes=layout.size, version=layout.version)
        message = layout.message()
        if message is None:
            raise SegmentError("side information inside another segment")
        row.update(rows=message.rows, columns=message.columns, weights=message.model.hex())
        if (found := read(jpeg, known, opened.height, opened.width)) is not None:
            row["lambda"] = found[0].lambda_rate
    except SegmentError as error:
        row["error"] = str(error)
    return row
