"""Restorer: files, padding, tiling, dtype and the dial around any model of the registry. Image in, image out."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import warnings
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from dagn_pre import codec, images, models
from dagn_pre.codec import Quality
from dagn_pre.errors import ImageError, ImageWarning, UsageError
from dagn_pre.metadata import Metadata, is_marked
from dagn_pre.protocol import Facts
from dagn_pre.side_information import adapter as side_information_files
from dagn_pre.side_information.adapter import Adapter
from dagn_pre.side_information.segment import SegmentError
from dagn_pre.timing import observable

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO_TILE = 1024
AUTO_TILE_PIXELS = 2048 * 2048  # untiled up to here
STRIDE = 16  # of every model's, the largest: tiles start at its multiples
BATCH_PIXELS = 1024 * 1024  # images of equal padded size share a batch up to here

ImageLike = str | Path | bytes | Image.Image | np.ndarray | Tensor
Hint = int | Quality | None
Strength = float | Mapping[int, float] | Sequence[Sequence[float]]  # one, or by QF


@dataclass(frozen=True)
class Options:
    """A restorer's options, checked; see :class:`Restorer`. Hashable, and cheap to make: no weights are loaded."""

    model: str | Path = "dagn-s"
    device: str = "auto"
    max_quality: int = 90
    strength: Strength = 1.0  # by QF: pairs in a tuple, ascending
    tile: int | None = None
    overlap: int | None = None
    dtype: str = "auto"
    quality: int | None = None
    strict: bool = False
    assume_tables: bool = False
    side_information: bool | str | Path = True
    strict_files: bool = False
    again: bool = False

    def __post_init__(self) -> None:
        model = models.get(self.model)
        if self.quality is not None:
            codec.check_quality(self.quality)
            if model.dial is False:
                raise UsageError(f"a quality set by hand has no effect on model {str(self.model)!r}")
        for name in ("strict", "assume_tables", "strict_files", "again"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if not isinstance(self.side_information, (bool, str, Path)):
            raise UsageError(f"side_information must be True, False or a weights file, not {self.side_information!r}")
        if not isinstance(self.side_information, bool):
            side_information_files.check_weights(self.side_information)
        if self.dtype not in ("auto", *DTYPES):
            raise UsageError(f"dtype must be auto, {', '.join(DTYPES)}, not {self.dtype!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(self.device)):
            raise UsageError(f"device must be auto, cpu, cuda or cuda:N, not {self.device!r}")
        if isinstance(self.max_quality, bool) or not isinstance(self.max_quality, int) or not 1 <= self.max_quality <= 101:
            raise UsageError(f"max_quality must be an integer from 1 to 101 (never skip), not {self.max_quality!r}")
        object.__setattr__(self, "strength", _check_strength(self.strength))
        for name, value in (("tile", self.tile), ("overlap", self.overlap)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise UsageError(f"{name} must be None or a number of pixels, not {value!r}")
        if self.tile and self.tile % STRIDE:
            raise UsageError(f"tile must be a multiple of {STRIDE}, not {self.tile}")

    def resolved_device(self) -> torch.device:
        """"auto" takes CUDA where there is one; raises UsageError for CUDA where there is none."""
        available = torch.cuda.is_available()
        if self.device == "auto":
            return torch.device("cuda" if available else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise UsageError(f"device {self.device!r} was asked for, but torch finds {count} CUDA device(s); use device='cpu'")
        return device

    def resolved_dtype(self, device: torch.device) -> torch.dtype:
        """"auto": bfloat16 on a GPU that has it, else float32; raises UsageError for what this torch cannot do there."""
        if self.dtype != "auto":
            try:
                if self.dtype != "float32":
                    torch.autocast(device.type, DTYPES[self.dtype])
            except RuntimeError as error:  # torch 2.1 has no float16 on the CPU
                raise UsageError(f"dtype {self.dtype!r} is not possible on {device.type}: {error}") from error
            return DTYPES[self.dtype]
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def _check_strength(strength: Strength) -> float | tuple[tuple[int, float], ...]:
    """A number as it is, a strength by QF as pairs by ascending QF."""
    if isinstance(strength, (int, float)) and 0 <= strength <= 1:
        return strength
    try:
        pairs = strength.items() if isinstance(strength, Mapping) else strength
        points = sorted((codec.check_quality(quality), float(value)) for quality, value in pairs)
    except (TypeError, ValueError):
        points = []
    if not points or len(dict(points)) < len(points) or not all(0 <= value <= 1 for _, value in points):
        raise UsageError(f"strength must lie in 0..1, or be such by QF, {{QF: strength}} or pairs of them, not {strength!r}")
    return tuple(points)


@dataclass
class _Item:
    """One image on its way: what came in, its pixels, what is known of its quality, how to give it back."""

    source: ImageLike
    rgb: np.ndarray | Tensor  # a tensor where one came in: (3, H, W), on its own device
    quality: Quality | None
    pixels: images.Pixels | None = None
    opened: Image.Image | None = None
    data: bytes | None = None  # the file, for models that need it, and where it may hold side information
    label: str | None = None
    restored: bool = False  # dagn-pre has done it before
    side: tuple[Adapter, np.ndarray] | None = None  # weights, and the symbols that were found for them

    @property
    def name(self) -> str:
        """For messages."""
        return self.label or getattr(self.source, "filename", None) or images.label(self.source)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return tuple(self.rgb.shape[1:] if isinstance(self.rgb, Tensor) else self.rgb.shape[:2])


class Restorer:
    """Removes JPEG artifacts from images; those of high enough quality pass untouched.

    Args:
        model: a registered name (``dagn_pre.models.names()``) or the path of a checkpoint: one of ours, one that ``spandrel``
            recognises, or with ``{qf}`` in its name one per QF (:mod:`dagn_pre.models`).
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:N".
        max_quality: at or above this QF an image is returned as it came; 101 restores everything.
        strength: 0..1, scales the correction; 0 returns the input exactly. Or such a number by QF, ``{10: 1.0, 40: 0.5}`` or
            pairs ``[(10, 1.0), (40, 0.5)]``, which survive a config's JSON: linear in between, constant beyond the ends.
        tile: None tiles images above 4 megapixels by 1024 pixels; 0 never tiles; otherwise the tile's side, a multiple of 16.
        overlap: how many pixels a tile sees beyond its border; None is the network's receptive radius, with which tiled
            equals untiled up to rounding. Guidance always comes from the whole image, once.
        dtype: "auto" (bfloat16 on a GPU that has it, else float32), "float32", "bfloat16", "float16"; applied by autocast, so
            the sum of input and correction stays float32. On CPUs with AMX "bfloat16" takes 0.4 of the time and moves PSNR
            by less than 0.002 dB (dagn-s, five images of LIVE1, QF 10 and 40); "auto" leaves it, since one pixel value in
            seven then differs, by up to 3 of 255, and results would depend on the CPU.
        quality: 1..100 sets the QF of every image by hand: its compression-sensitive vector is replaced by that QF's mean
            over the training set, so that lower corrects more. For images that were compressed more than once, or resized
            since: their headers lie, and so may their pixels. Nothing is skipped then, whatever ``max_quality``, header or
            hint say.
        strict: refuse an image of a QF that no model was trained for, where there is one model per QF; otherwise the nearest
            is taken, with a warning.
        assume_tables: for models that need quantisation tables, or the QF: take IJG's standard ones for the QF that dagn-s
            reads from the pixels, where an image has none of its own (a PNG); otherwise that is an error.
        side_information: use what the sender has added to a JPEG file (:mod:`dagn_pre.side_information`), where weights for
            it are here; True takes the shipped ones, a path those of that file, False ignores it. What is damaged or
            unknown is named in a warning, and the image restored as if it were not there.
        strict_files: refuse a JPEG file that lacks its end marker; otherwise, where nothing else is missing, it is restored
            with a warning.
        again: restore also a file that says that dagn-pre has restored it, as those of ``dagn-pre restore`` do; otherwise it is
            returned as it came, whatever ``quality`` and ``max_quality`` say.

    Attributes:
        model: the :class:`dagn_pre.protocol.RestorationModel` that does it.
        fingerprint: of the weights, as ``dagn_pre.models.fingerprint`` gives it.
        card: what the weights file says of itself; {} for other makers' files.
        adapters: the weights of side information that it knows, by the four bytes that name them in files.

    Restorers of one model and device share its networks for as long as one of them lives.

    Raises:
        UsageError: an option outside its range, an unknown model, CUDA where there is none, ``quality`` for weights that
            hold no mean vectors or a model on which it has no effect.
        WeightsError: weights that are missing, damaged, unsafe or do not fit.
        DagnPreError: a model that needs an extra which is not installed.

    Source: Ma et al., TIP 2024, Sec. III-B, for the default; the network is :class:`dagn_pre.networks.dagn.DAGN`.
    """

    expects_side_information = False  # whether an image without it is worth a warning

    def __init__(
        self,
        model: str | Path = "dagn-s",
        device: str = "auto",
        max_quality: int = 90,
        strength: Strength = 1.0,
        tile: int | None = None,
        overlap: int | None = None,
        dtype: str = "auto",
        quality: int | None = None,
        strict: bool = False,
        assume_tables: bool = False,
        side_information: bool | str | Path = True,
        strict_files: bool = False,
        again: bool = False,
    ) -> None:
        self.options = Options(
            model, device, max_quality, strength, tile, overlap, dtype, quality, strict, assume_tables, side_information,
            strict_files, again,
        )
        self.device = self.options.resolved_device()
        self.dtype = self.options.resolved_dtype(self.device)
        self.fingerprint = models.fingerprint(model)
        self._loaded = _load(model, self.fingerprint, self.device)  # held, since the cache behind it is weak
        self.model, self.card = self._loaded.model, self._loaded.card
        if quality is not None:
            try:
                self.model.check_dial(quality)
            except UsageError as error:
                raise UsageError(f"model {str(model)!r}: {error}") from error
        radius = self.model.receptive_radius if overlap is None else overlap
        self.overlap = -(-radius // STRIDE) * STRIDE
        self._warned: set[int] = set()
        self.adapters = side_information_files.known(side_information, self.fingerprint, str(model))

    @observable
    def __call__(
        self,
        image: ImageLike | Sequence[ImageLike],
        quality: Hint | Sequence[Hint] = None,
        channel_order: str = "rgb",
        data: bytes | None = None,
        name: str | None = None,
    ):
        """Restore one image or a list of them.

        Args:
            image: a path or the bytes of a file (gives an (H, W, 3) uint8 RGB array, upright), a PIL image (gives a PIL
                image), an (H, W, 3) uint8 array (gives an array in the same channel order), a (3, H, W) uint8 tensor on any
                device (gives a tensor on that device, in the same channel order; its pixels never leave the restorer's
                device), or a list or tuple of these (gives a list; images of equal padded size share a batch). An image
                that is skipped comes back as the same object. Which kinds of images work: :mod:`dagn_pre.images`.
            quality: what the caller knows of the QF, one for all or one per image. It decides only whether the image is
                skipped (for more, see the constructor's ``quality``). None: a JPEG's header, else P_qf's blind estimate.
            channel_order: "rgb" or "bgr", of arrays and tensors only.
            data: of one array or tensor, the bytes of the JPEG file that it was decoded from, for its side information.
            name: of one image, what messages call it.

        Raises:
            ImageError: an image that cannot be read or is refused; the file is named.
            UsageError: ``data`` for anything but one array or tensor, ``name`` for a list, quality outside 1..100, another
                channel order, quality hints that do not match the list; CUDA in a forked process.
        """
        if channel_order not in ("rgb", "bgr"):
            raise UsageError(f"channel_order must be 'rgb' or 'bgr', not {channel_order!r}")
        if data is not None and not (isinstance(data, bytes) and isinstance(image, (np.ndarray, Tensor))):
            raise UsageError("data are the bytes of the file that one array or tensor was decoded from")
        if not isinstance(image, (list, tuple)):
            return self._restore([image], [quality], channel_order, data, name)[0]
        if name is not None:
            raise UsageError("name is of one image, and a list of images was given")
        hints = list(quality) if isinstance(quality, (list, tuple)) else [quality] * len(image)
        if len(hints) != len(image):
            raise UsageError(f"{len(hints)} quality hints were given for {len(image)} images")
        return self._restore(list(image), hints, channel_order)

    def quality(self, image: ImageLike, blind: bool = False, channel_order: str = "rgb") -> Quality:
        """QF from a JPEG's header, else (or with ``blind``) as P_qf estimates it from the pixels.

        Raises:
            ImageError: as :meth:`__call__`.
            UsageError: a blind estimate is needed, but the model makes none.
        """
        _mind_fork(self.device)
        item = self._open(image, None, channel_order)
        if item.quality and not blind:
            return item.quality
        if not self.model.blind:
            raise UsageError(f"model {str(self.options.model)!r} has no quality predictor")
        return self._blind(self._guide(self._tensor([item.rgb]), [Facts()]))[0]

    def restored_before(self, image: ImageLike) -> bool:
        """Whether a file or a PIL image says that dagn-pre has restored it, and its pixels are still those; see ``again``.

        Raises:
            ImageError: as :meth:`__call__`.
        """
        return self._open(image, None, "rgb").restored

    # -- one image in, one image out ----------------------------------------------------------------------------------

    def _open(self, source: ImageLike, hint: Hint, channel_order: str) -> _Item:
        known = hint if hint is None or isinstance(hint, Quality) else codec.given_quality(hint)
        if isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
                raise ImageError(f"an array must be (H, W, 3) uint8 with pixels, not {source.dtype} of shape {source.shape}")
            return _Item(source, source[..., ::-1] if channel_order == "bgr" else source, known)
        if isinstance(source, Tensor):
            if source.dtype != torch.uint8 or source.ndim != 3 or source.shape[0] != 3 or not source.numel():
                found = f"{source.dtype} of shape {tuple(source.shape)}"
                raise ImageError(f"a tensor must be (3, H, W) uint8 with pixels, not {found}")
            return _Item(source, source.flip(0) if channel_order == "bgr" else source, known)
        if isinstance(source, Image.Image):
            opened, name = source, getattr(source, "filename", "") or "image"
        elif isinstance(source, (str, Path, bytes)):
            opened, name = images.open_image(source), images.label(source)
        else:
            raise ImageError(f"an image must be a path, bytes, a PIL image, an array or a tensor, not {type(source).__name__}")
        with codec.reading(name):
            header = codec.header_quality(opened)
        if known is None:
            known = header
        elif header is not None:  # a hint knows better how good the image is, the header how it was written
            known = replace(known, tables=header.tables, subsampling=header.subsampling)
        pixels = images.Pixels.of(opened, name, self.options.strict_files)
        item = _Item(source, pixels.rgb, known, pixels, opened, restored=is_marked(opened, pixels.rgb))
        if self.model.needs == "file":
            item.data = self._file(source, opened, pixels, name)
        elif self.options.side_information is not False and side_information_files.carries(opened):
            with contextlib.suppress(ImageError):  # the file has changed or gone; _side says so
                item.data = self._file(source, opened, pixels, name)
        return item

    @staticmethod
    def _file(source: ImageLike, opened: Image.Image, pixels: images.Pixels, name: str) -> bytes | None:
        """The bytes of a JPEG, for models that decode it themselves; None for other images.

        Raises:
            ImageError: a PIL image that is not, or no longer, what the file holds that it was opened from.
        """
        path = source if isinstance(source, (str, Path)) else getattr(source, "filename", None)
        if not isinstance(opened, JpegImageFile) or not (isinstance(source, bytes) or path):
            return None
        if isinstance(source, bytes):
            return source
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ImageError(f"{name}: {error.strerror or error}") from error
        if isinstance(source, Image.Image) and not np.array_equal(codec.decode(data), pixels.rgb):
            raise ImageError(f"{name}: has been changed since it was opened, and this model works on the file; give the path")
        return data

    def _close(self, item: _Item, restored: Tensor | None, channel_order: str):
        """Give back what came in, with ``restored`` pixels, (3, H, W) uint8 RGB; None for untouched."""
        if restored is None and isinstance(item.source, (np.ndarray, Tensor, Image.Image)):
            return item.source
        if isinstance(item.source, Tensor):  # copied, since autograd refuses what was made in inference mode
            restored = restored.to(item.source.device)
            return restored.flip(0) if channel_order == "bgr" else restored.clone()
        rgb = item.rgb if restored is None else np.ascontiguousarray(restored.permute(1, 2, 0).cpu().numpy())
        if isinstance(item.source, np.ndarray):
            return np.ascontiguousarray(rgb[..., ::-1]) if channel_order == "bgr" else rgb
        if isinstance(item.source, Image.Image):
            rebuilt = item.pixels.rebuild(rgb)
            rebuilt.info = Metadata.of(item.source).info()
            return rebuilt
        return images.upright(rgb, item.opened)

    def _restore(
        self, sources: list, hints: list, channel_order: str, data: bytes | None = None, name: str | None = None
    ) -> list:
        _mind_fork(self.device)
        items = [self._open(source, hint, channel_order) for source, hint in zip(sources, hints)]
        if data is not None:
            items[0].data = data
        if name is not None:
            items[0].label = name
        restored: list[Tensor | None] = [None] * len(items)
        groups = defaultdict(list)  # padded size -> indices
        stride = self.model.stride
        for index, item in enumerate(items):
            if self.options.strength == 0 or self._skips(item):
                continue
            self._check_facts(item)
            item.side = self._side(item)
            height, width = item.size
            groups[-(-height // stride), -(-width // stride), item.side and item.side[0].identity].append(index)
        for (rows, columns, _), indices in groups.items():
            size = max(1, BATCH_PIXELS // (rows * columns * stride**2))
            for start in range(0, len(indices), size):
                batch = indices[start : start + size]
                for index, pixels in zip(batch, self._restore_batch([items[i] for i in batch])):
                    restored[index] = pixels
        return [self._close(item, pixels, channel_order) for item, pixels in zip(items, restored)]

    def _skips(self, item: _Item) -> bool:
        if item.restored and not self.options.again:
            return True
        known = item.quality is not None and self.options.quality is None
        return known and item.quality.value >= self.options.max_quality

    def _check_facts(self, item: _Item) -> None:
        """See that what the model needs to know of an image is known; raises ImageError where it cannot be."""
        model, name = self.model, str(self.options.model)
        if model.needs == "file" and item.data is None:
            raise ImageError(f"{item.name}: model {name!r} works on JPEG files; give it the path or the bytes of one")
        assumed = self.options.quality
        if model.needs == "tables" and assumed is None and item.quality is None:
            if not self.options.assume_tables:
                raise ImageError(
                    f"{item.name}: no JPEG, so it has no quantisation tables, which model {name!r} needs; tell its quality, or "
                    "set assume_tables to go by an estimate of it"
                )
            estimator = shared_restorer(device=str(self.device))
            item.quality = estimator.quality(item.rgb, blind=True)
        by_quality = not isinstance(self.options.strength, (int, float))
        if by_quality and assumed is None and item.quality is None and not model.blind:
            raise ImageError(
                f"{item.name}: its quality is not known, and model {name!r} does not estimate it, so there is no telling which "
                "strength to take; tell its quality, or give one strength for all"
            )
        if model.qualities is not None:
            quality = item.quality.value if assumed is None else assumed
            if quality not in model.qualities:
                known = ", ".join(map(str, model.qualities))
                trained = f"{item.name}: model {name!r} was trained for QF {known}, not {quality}"
                if self.options.strict:
                    raise ImageError(trained)
                if quality not in self._warned:
                    self._warned.add(quality)
                    warnings.warn(f"{trained}; the one for {model.nearest(quality)} is taken", ImageWarning, stacklevel=4)

    def _side(self, item: _Item) -> tuple[Adapter, np.ndarray] | None:
        """The side information that an image's file holds, decoded; None where there is none, or none that can be used."""
        if self.options.side_information is False:
            return None
        try:
            if item.opened is None:
                found = item.data and side_information_files.read_for_array(item.data, self.adapters, *item.size)
            elif not side_information_files.carries(item.opened):
                found = None
            elif item.data is None:
                raise SegmentError("side information in a file that is not at hand, or has changed; give its path")
            else:
                found = side_information_files.read(item.data, self.adapters, *item.size)
        except SegmentError as error:
            warnings.warn(f"{item.name}: {error}; restored without it", ImageWarning, stacklevel=4)
            return None
        if not found and self.expects_side_information:
            warnings.warn(f"{item.name}: has no side information; restored without it", ImageWarning, stacklevel=4)
        return found or None

    # -- tensors ------------------------------------------------------------------------------------------------------

    def _tensor(self, rgbs: list[np.ndarray | Tensor]) -> Tensor:
        """(H, W, 3) uint8 arrays or (3, H, W) uint8 tensors, of one padded size -> (B, 3, H', W') float32 in [0, 1] on the
        device."""
        tensors = [
            rgb.to(self.device) if isinstance(rgb, Tensor) else torch.tensor(rgb.copy()).to(self.device).permute(2, 0, 1)
            for rgb in rgbs
        ]
        padded = [self.model.pad(tensor[None] / 255) for tensor in tensors]
        return torch.cat(padded).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> contextlib.AbstractContextManager:
        # Switched off also where the caller's own autocast is on, as in training with AMP.
        if self.dtype == torch.float32 or not self.model.autocast or (self.dtype == torch.float16 and not self.model.half):
            return torch.autocast(self.device.type, enabled=False)
        return torch.autocast(self.device.type, self.dtype)

    @torch.inference_mode()
    def _guide(self, x: Tensor, facts: list[Facts]) -> object:
        with self._autocast():
            return self.model.guide(x, facts)

    def _blind(self, guidance: object) -> list[Quality]:
        return [Quality(int(value), "blind") for value in self.model.blind_quality(guidance).tolist()]

    @torch.inference_mode()
    def _restore_batch(self, items: list[_Item]) -> list[Tensor | None]:
        """Restore images of one padded size, as (3, H, W) uint8 tensors on the device; None for those whose blind quality
        says they need nothing."""
        x = self._tensor([item.rgb for item in items])
        assumed = self.options.quality
        guidance = self._guide(x, [Facts(item.quality, assumed, item.data, item.name) for item in items])
        if self.model.blind and assumed is None:
            for item, blind in zip(items, self._blind(guidance)):
                item.quality = item.quality or blind
        skipped = [self._skips(item) for item in items]
        if all(skipped):
            return [None] * len(items)
        if items[0].side is not None:  # then all of the batch have it, for the same weights
            symbols = np.stack([item.side[1] for item in items])
            guidance = self.model.condition(guidance, items[0].side[0].maps(symbols, self.device))
        output = torch.lerp(x, self._tiled(x, guidance).float(), self._strength(items))
        output = output.clamp(0, 1).mul(255).round().to(torch.uint8)
        if (grey := (x[:, :1] == x[:, 1:]).flatten(1).all(1)).any():  # stays so, also where it came as colour
            output[grey] = output[grey].float().mean(1, keepdim=True).round().to(torch.uint8)
        return [
            None if skip else pixels[:, : item.size[0], : item.size[1]]
            for item, skip, pixels in zip(items, skipped, output)
        ]

    def _strength(self, items: list[_Item]) -> float | Tensor:
        """One for all images, or (B, 1, 1, 1) by the QF of each."""
        strength, assumed = self.options.strength, self.options.quality
        if isinstance(strength, (int, float)):
            return float(strength)
        qualities = [item.quality.value if assumed is None else assumed for item in items]
        found = np.interp(qualities, *zip(*strength)).astype(np.float32)
        return torch.from_numpy(found).to(self.device).view(-1, 1, 1, 1)

    def _tiled(self, x: Tensor, guidance: object) -> Tensor:
        """The model's ``restore`` on the whole padded image or tile by tile, with ``overlap`` pixels of context."""
        height, width = x.shape[-2:]
        tile = self.options.tile
        if not self.model.tiles:
            tile = 0
        if tile is None:
            tile = AUTO_TILE if height * width > AUTO_TILE_PIXELS else 0
        with self._autocast():
            if not tile or (height <= tile and width <= tile):
                return self.model.restore(x, guidance)
            output = torch.empty_like(x)
            for top in range(0, height, tile):
                for left in range(0, width, tile):
                    bottom, right = min(top + tile, height), min(left + tile, width)
                    y, x0 = max(top - self.overlap, 0), max(left - self.overlap, 0)
                    crop = x[..., y : min(bottom + self.overlap, height), x0 : min(right + self.overlap, width)]
                    here = self.model.window(guidance, y, x0, *crop.shape[-2:])
                    restored = self.model.restore(crop.contiguous(memory_format=torch.channels_last), here)
                    output[..., top:bottom, left:right] = restored[..., top - y : bottom - y, left - x0 : right - x0]
        return output


_user: int | None = None  # the process in which a restorer was used first, which a forked one inherits


def _mind_fork(device: torch.device) -> None:
    """Keep torch to one thread in a process that was forked from one which used a restorer: OpenMP's threads do not survive a
    fork, and torch would wait for them for ever.

    Raises:
        UsageError: on CUDA, which does not survive it either.
    """
    global _user
    if _user is None:
        _user = os.getpid()
    elif _user != os.getpid():
        if device.type == "cuda":
            raise UsageError('CUDA does not work in a forked process: start it by spawn, or restore with device="cpu"')
        torch.set_num_threads(1)


_networks: weakref.WeakValueDictionary[tuple[str, torch.device], models.Loaded] = weakref.WeakValueDictionary()


def _load(model: str | Path, fingerprint: str, device: torch.device) -> models.Loaded:
    """A model's networks on ``device``: one copy per content of the weights file, freed with the last restorer that uses it."""
    key = fingerprint, device
    loaded = _networks.get(key)
    if loaded is None:
        loaded = models.load(model)
        loaded.model.to(device, memory_format=torch.channels_last)
        _networks[key] = loaded
    return loaded


def check_options(**options) -> Options:
    """Check a restorer's options without loading weights; raises UsageError as :class:`Restorer` would."""
    return Options(**options)


@functools.lru_cache(maxsize=4)
def _cached(options: Options) -> Restorer:
    return Restorer(**vars(options))


def shared_restorer(**options) -> Restorer:
    """The process's one restorer for these options, made at the first call; pipelines that are rebuilt share it.

    A forked worker inherits its parent's networks, in shared memory, where there are some.
    """
    return _cached(Options(**options))
