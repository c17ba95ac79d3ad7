"""Restorer: image in, image out, around any model of the registry."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from dagn_pre import cache, codec, inference, models, planning
from dagn_pre.codec import Quality
from dagn_pre.errors import ImageError, ImageWarning, UsageError
from dagn_pre.forks import mind_fork
from dagn_pre.inference import Inference
from dagn_pre.options import Options, check_options
from dagn_pre.planning import Plan
from dagn_pre.protocol import ImageInformation, RestorationModel
from dagn_pre.side_information import adapter as side_information_files
from dagn_pre.side_information.adapter import Adapter
from dagn_pre.sources import Hint, ImageLike, Images, Source, as_array, own_name
from dagn_pre.timing import observable

KINDS = ("png", "untouched")  # of the cache's entries; each ends with a byte that is the QF which the pixels told, or 0
BATCH_PIXELS = 1024 * 1024  # images of equal padded size share a batch up to here, on a GPU


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        image: as :meth:`Restorer.__call__` gives it; the same object where it was skipped.
        restored: False where it was skipped.
        reason: why it was skipped; None where it was not.
        cached: whether the cache knew it.
        side: the side information of its file that it was planned with, as :class:`dagn_pre.planning.Plan` has it.
        notes: what :meth:`Restorer.__call__` warns of.
        quality: the QF that was gone by: the caller's, the file's, or what the pixels told; None where nothing asked for it.
    """

    image: ImageLike
    restored: bool
    reason: str | None = None
    cached: bool = False
    side: planning.Symbols | None = None
    notes: tuple[str, ...] = ()
    quality: Quality | None = None


@dataclass
class _Item:
    """One image on its way."""

    source: Source
    plan: Plan
    pixels: Tensor | None = None  # the restored ones, (3, H, W) uint8
    skip: str | None = None  # what the blind estimate adds to the plan's
    cached: bool = False

    def outcome(self, assumed: Quality | None) -> Outcome:
        restored, reason, plan = self.pixels is not None, self.plan.skip or self.skip, self.plan
        quality = codec.RESTORED if self.source.marked and not restored else assumed or self.source.quality
        return Outcome(self.source.result(self.pixels), restored, reason, self.cached, plan.side, plan.notes, quality)


class Restorer:
    """Removes JPEG artifacts from images; those of high enough quality pass untouched.

    Args:
        model, device, and all others: see :class:`dagn_pre.options.Options`, which defines them.

    Attributes:
        options: the :class:`dagn_pre.options.Options`.
        fingerprint: of the weights, as ``dagn_pre.models.fingerprint`` gives it.
        cache: the :class:`dagn_pre.cache.Cache` of ``cache_dir``; None without.

    Restorers of one model and device share its networks for as long as one of them lives.

    Raises:
        UsageError: an option outside its range or of another name, an unknown model, CUDA where there is none,
            ``assume_quality`` for weights that hold no mean vectors or a model on which it has no effect, a ``cache_dir`` that
            holds other things.
        WeightsError: weights that are missing, damaged, unsafe or do not fit.
        DagnPreError: a model that needs an extra which is not installed.
        With ``cache_dir`` those that need the weights come when an image does.

    Source: Ma et al., TIP 2024, Sec. III-B, for the default; the network is :class:`dagn_pre.networks.dagn.DAGN`.
    """

    def __init__(self, model: str | Path = Options.model, device: str = Options.device, **options) -> None:
        self.options = check_options(model=model, device=device, **options)
        self.device = self.options.resolved_device()
        self.dtype = self.options.resolved_dtype(self.device)
        self.engine = self.options.resolved_engine(self.device)
        self.fingerprint = models.fingerprint(model)
        if not isinstance(self.options.side_information, bool):
            side_information_files.own(self.options.side_information, self.fingerprint, str(model))
        self._noted: set[int] = set()  # QFs for which another one's model was taken
        folder = self.options.cache_dir
        self.cache = None if folder is None else cache.Cache(folder, self.options.cache_size)
        if self.cache is None:
            _ = self.inference

    def __reduce__(self) -> tuple:
        """Pickles as its options: another process loads the weights for itself, and makes its own engine."""
        return restorer_of, (self.options,)

    @cached_property
    def inference(self) -> Inference:
        """The networks on the device, loaded at the first use."""
        mind_fork(self.device)
        name = self.options.model
        if self.cache is not None:  # then it has not been loaded at once, and the file may have been replaced since
            self.fingerprint = models.fingerprint(name)
        loaded = inference.load(name, self.fingerprint, self.device)
        if self.options.assume_quality is not None:
            try:
                loaded.model.check_quality_override(self.options.assume_quality)
            except UsageError as error:
                raise UsageError(f"model {str(name)!r}: {error}") from error
        strict = self.options.engine != "auto"
        engine = inference.engine(self.engine, loaded, str(name), self.fingerprint, self.device, self.dtype, strict)
        return Inference(loaded, engine, self.device, self.dtype, self.options.tile, self.options.overlap)

    @property
    def model(self) -> RestorationModel:
        """What does it; loads it."""
        return self.inference.model

    @property
    def card(self) -> dict:
        """What the weights file says of itself; {} for other makers' files. Loads it."""
        return self.inference.loaded.card

    @property
    def adapters(self) -> dict[bytes, Adapter]:
        """The weights of side information that it knows, by the four bytes that name them in files."""
        return side_information_files.known(self.options.side_information, self.fingerprint, str(self.options.model))

    def __call__(
        self,
        image: ImageLike | Images,
        quality: Hint | Sequence[Hint] = None,
        channel_order: str = "rgb",
        data: bytes | None = None,
        name: str | None = None,
    ):
        """Restore one image or a list of them.

        Args:
            image: a path or the bytes of a file (gives an (H, W, 3) uint8 RGB array, upright), a PIL image (gives a PIL
                image), an (H, W, 3) uint8 array (gives an array in the same channel order), a (3, H, W) uint8 tensor on any
                device (gives a tensor on that device, in the same channel order; its pixels leave the restorer's device only
                to be looked up in a cache, and where nothing tells whether they were a JPEG), or a list or tuple of these
                (gives a list; on a GPU images of equal padded size share a batch). An image that is skipped comes back as
                the same object. Which kinds of images work: :mod:`dagn_pre.images`.
            quality: what the caller knows of the QF, 1..100, one for all or one per image; None: the file's header
                tells, else P_qf's blind estimate. It decides whether the image is skipped (``max_quality``), which ``strength``
                is taken where that is by QF, and which model where there is one per QF.
            channel_order: "rgb" or "bgr", of arrays and tensors only.
            data: of one array or tensor, the bytes of the file that it was decoded from: for its quality, for what it says of
                earlier restoring, for its side information, and for models that decode it themselves.
            name: of one image, what messages call it; by itself it is called by its path, or in a list "image 0" and so on.

        Raises:
            ImageError: an image that cannot be read or is refused; the file is named.
            UsageError: ``data`` for anything but one array or tensor, ``name`` for a list, a quality outside 1..100, another
                channel order, quality hints that do not match the list; CUDA in a forked process.
        """
        outcomes = self._each(image, quality, channel_order, data, name)
        for note in dict.fromkeys(note for one in outcomes for note in one.notes):
            warnings.warn(note, ImageWarning, stacklevel=2)
        images = [one.image for one in outcomes]
        return images if isinstance(image, (list, tuple)) else images[0]

    @overload
    def restore(
        self,
        image: ImageLike,
        quality: Hint = None,
        channel_order: str = "rgb",
        data: bytes | None = None,
        name: str | None = None,
    ) -> Outcome: ...

    @overload
    def restore(
        self,
        image: Images,
        quality: Hint | Sequence[Hint] = None,
        channel_order: str = "rgb",
        data: bytes | None = None,
        name: str | None = None,
    ) -> list[Outcome]: ...

    def restore(
        self,
        image: ImageLike | Images,
        quality: Hint | Sequence[Hint] = None,
        channel_order: str = "rgb",
        data: bytes | None = None,
        name: str | None = None,
    ) -> Outcome | list[Outcome]:
        """:meth:`__call__`, with what became of each image; without warnings, which are in the outcomes' notes."""
        outcomes = self._each(image, quality, channel_order, data, name)
        return outcomes if isinstance(image, (list, tuple)) else outcomes[0]

    def _each(
        self,
        image: ImageLike | Images,
        quality: Hint | Sequence[Hint],
        channel_order: str,
        data: bytes | None,
        name: str | None,
    ) -> list[Outcome]:
        several = isinstance(image, (list, tuple))
        if several and name is not None:
            raise UsageError("name is of one image, and a list of images was given")
        given: list[ImageLike] = list(image) if isinstance(image, (list, tuple)) else [image]
        hints: list[Any] = [quality] * len(given)  # each is checked when its image is opened
        if several and isinstance(quality, (list, tuple)):
            hints = list(quality)
        if len(hints) != len(given):
            raise UsageError(f"{len(hints)} quality hints were given for {len(given)} images")
        if several and data is not None:
            raise UsageError("data are the bytes of the file that one array or tensor was decoded from")
        mind_fork(self.device)
        names = [own_name(one) or f"image {i}" for i, one in enumerate(given)] if several else [name]
        sources = [self._open(one, hint, channel_order, data, name) for one, hint, name in zip(given, hints, names)]
        return self._outcomes(sources)

    def plan(
        self,
        image: ImageLike,
        quality: Hint = None,
        channel_order: str = "rgb",
        data: bytes | None = None,
        name: str | None = None,
    ) -> Plan:
        """What :meth:`__call__` would do with one image, by what is known before any network looks at it; loads none.

        Raises:
            ImageError, UsageError: as :meth:`__call__`.
        """
        mind_fork()  # symbols of side information are decoded, on the CPU
        return self._planned(self._open(image, quality, channel_order, data, name)).plan

    def estimate_quality(self, image: ImageLike | Source, blind: bool = False, channel_order: str = "rgb") -> Quality:
        """QF from a JPEG's header, else (or with ``blind``) as P_qf estimates it from the pixels.

        Raises:
            ImageError: as :meth:`__call__`.
            UsageError: a blind estimate is needed, but the model makes none.
        """
        mind_fork(self.device)
        source = self._open(image, None, channel_order)
        if source.quality and not blind:
            return source.quality
        if not self.model.blind:
            raise UsageError(f"model {str(self.options.model)!r} has no quality predictor")
        return self._blind(source)

    def _blind(self, source: Source) -> Quality:
        if source.blind is None:
            guidance = self.inference.guide(self.inference.tensor([source.rgb]), [ImageInformation()])
            source.blind = self.inference.blind_quality(guidance)[0]
        return source.blind

    def skipped(self, image: ImageLike | Source) -> str | None:
        """Why :meth:`__call__` returns an image as it came; None: it restores it. Asks the blind estimate, where it must.

        Raises:
            ImageError: as :meth:`__call__`.
        """
        mind_fork(self.device)
        opened = self._open(image)
        source = copy.copy(opened)  # what the pixels tell for these options is not known for others
        reason = planning.skip(source, self.options)
        if reason is None and source.quality is None and self.options.assume_quality is None and self.model.blind:
            source.quality = self._blind(opened)
            reason = planning.skip(source, self.options)
        return reason

    def restored_before(self, image: ImageLike | Source) -> bool:
        """Whether a file or a PIL image says that dagn-pre has restored it, and its pixels are still those; see ``again``.

        Raises:
            ImageError: as :meth:`__call__`.
        """
        return self._open(image).marked

    def open(self, image: ImageLike, name: str | None = None) -> Source:
        """An image opened and decoded, for several of :meth:`estimate_quality`, :meth:`skipped` and :meth:`restored_before`.

        Raises:
            ImageError: as :meth:`__call__`.
        """
        return self._open(image, name=name)

    # -- what to do ---------------------------------------------------------------------------------------------------

    def _open(
        self,
        image: ImageLike | Source,
        hint: Hint = None,
        channel_order: str = "rgb",
        data: bytes | None = None,
        name: str | None = None,
    ) -> Source:
        if isinstance(image, Source):
            return image
        if channel_order not in ("rgb", "bgr"):
            raise UsageError(f"channel_order must be 'rgb' or 'bgr', not {channel_order!r}")
        if data is not None and not (isinstance(data, bytes) and isinstance(image, (np.ndarray, Tensor))):
            raise UsageError("data are the bytes of the file that one array or tensor was decoded from")
        return Source.of(image, hint, channel_order, data, name, self.options.strict_files)

    def _planned(self, opened: Source) -> _Item:
        source = copy.copy(opened)  # as in skipped
        if self.options.needs_file and planning.skip(source, self.options) is None:
            source = source.reopened(str(self.options.model), self.options.strict_files)
        return _Item(source, planning.plan(source, self.options, self.fingerprint, lambda: self.adapters))

    @observable(lambda outcomes: sum(not one.cached for one in outcomes))
    def _outcomes(self, sources: list[Source]) -> list[Outcome]:
        items = [self._planned(source) for source in sources]
        missing = [item for item in items if item.plan.skip is None and not self._found(item)]
        if missing:
            before, network = self.fingerprint, self.inference
            if self.fingerprint != before:  # other weights than those that were planned with
                for item in missing:
                    item.plan = self._planned(item.source).plan
            self._restore(missing, network.model)
        assumed = self.options.assume_quality
        known = None if assumed is None else codec.given_quality(assumed)
        return [item.outcome(known) for item in items]

    # -- the cache ----------------------------------------------------------------------------------------------------

    def _found(self, item: _Item) -> bool:
        """Whether the cache knows what becomes of an image, which it then has."""
        key = item.plan.key
        if self.cache is None or key is None:
            return False
        kind, entry = next(((kind, data) for kind in KINDS if (data := self.cache.get(key, kind)) is not None), (None, b""))
        if kind is None:
            return False
        content, blind = entry[:-1], entry[-1]
        if kind == "png":
            item.pixels = torch.tensor(codec.decode(content)).permute(2, 0, 1)
        else:
            item.skip = content.decode()
        if item.source.quality is None and blind:
            item.source.quality = Quality(blind, "blind")
        item.cached = True
        return True

    def _keep(self, item: _Item) -> None:
        key = item.plan.key
        if self.cache is None or key is None:
            return
        quality = item.source.quality
        blind = bytes([0 if quality is None else quality.value])  # what is known otherwise is part of the key
        if item.pixels is not None:
            self.cache.put(key, "png", cache.to_png(as_array(item.pixels)) + blind)
        elif item.skip is not None:
            self.cache.put(key, "untouched", item.skip.encode() + blind)

    # -- what the model has to know -----------------------------------------------------------------------------------

    def _check_information(self, item: _Item, model: RestorationModel) -> None:
        """See that what the model needs to know of an image is known; raises ImageError where it cannot be."""
        source, name = item.source, str(self.options.model)
        assumed = self.options.assume_quality
        if model.needs == "tables" and assumed is None and source.quality is None:
            if not self.options.assume_tables:
                raise ImageError(
                    f"{source.name}: no JPEG, so it has no quantisation tables, which model {name!r} needs; tell its quality, "
                    "or set assume_tables to go by an estimate of it"
                )
            estimator = shared_restorer(device=str(self.device))
            source.quality = estimator.estimate_quality(source.rgb, blind=True)
        by_quality = not isinstance(self.options.strength, (int, float))
        if by_quality and assumed is None and source.quality is None and not model.blind:
            raise ImageError(
                f"{source.name}: its quality is not known, and model {name!r} does not estimate it, so there is no telling "
                "which strength to take; tell its quality, or give one strength for all"
            )
        if model.qualities is not None:
            quality = self._quality(source)
            if quality not in model.qualities:
                known = ", ".join(map(str, model.qualities))
                trained = f"{source.name}: model {name!r} was trained for QF {known}, not {quality}"
                if self.options.strict:
                    raise ImageError(trained)
                if quality not in self._noted:
                    self._noted.add(quality)
                    note = f"{trained}; the one for {model.nearest(quality)} is taken"
                    item.plan = replace(item.plan, notes=(*item.plan.notes, note))

    def _quality(self, source: Source) -> int:
        """The QF to go by, which is known by now."""
        assumed = self.options.assume_quality
        if assumed is not None:
            return assumed
        assert source.quality is not None
        return source.quality.value

    @property
    def batch_pixels(self) -> int:
        """Up to how many pixels together images of one padded size go through the networks at once; 0 on a CPU, where each goes
        alone: a batch gains little there, and its sums are rounded otherwise, so that pixels would depend on what an image came
        with."""
        return 0 if self.device.type == "cpu" else BATCH_PIXELS

    # -- tensors ------------------------------------------------------------------------------------------------------

    def _restore(self, items: list[_Item], model: RestorationModel) -> None:
        """Restore images, in batches of one padded size and one set of weights of side information."""
        groups: dict[tuple, list[_Item]] = defaultdict(list)
        for item in items:
            self._check_information(item, model)
            height, width = item.source.size
            side = item.plan.side
            groups[-(-height // model.stride), -(-width // model.stride), side and side[0].identity].append(item)
        for (rows, columns, _), group in groups.items():
            size = max(1, self.batch_pixels // (rows * columns * model.stride**2))
            for start in range(0, len(group), size):
                batch = group[start : start + size]
                self._restore_batch(batch)
                for item in batch:
                    self._keep(item)

    @torch.inference_mode()
    def _restore_batch(self, items: list[_Item]) -> None:
        """Restore images of one padded size, on the device, but for those whose blind quality says they need nothing."""
        sources, network, assumed = [item.source for item in items], self.inference, self.options.assume_quality
        x = network.tensor([source.rgb for source in sources])
        file = Source.file if network.model.needs == "file" else lambda source: None
        information = [ImageInformation(source.quality, assumed, file(source), source.name) for source in sources]
        guidance = network.guide(x, information)
        if network.model.blind and assumed is None:
            for source, blind in zip(sources, network.blind_quality(guidance)):
                source.quality = source.quality or blind
        for item in items:
            item.skip = planning.skip(item.source, self.options)
        if all(item.skip is not None for item in items):
            return
        side = items[0].plan.side
        if side is not None:  # then all of the batch have it, for the same weights
            symbols = np.stack([item.plan.side[1] for item in items if item.plan.side is not None])
            guidance = network.model.condition(guidance, side[0].maps(symbols, self.device))
        output = self._to_pixels(x, network.tiled(x, guidance), self._strength(sources))
        for item, pixels in zip(items, output):
            height, width = item.source.size
            item.pixels = pixels[:, :height, :width] if item.skip is None else None

    @staticmethod
    def _to_pixels(x: Tensor, output: Tensor, strength: float | Tensor) -> Tensor:
        """What the network made of ``x``, (B, 3, H, W) floats both, as uint8 pixels."""
        output = output.float()
        if isinstance(strength, Tensor) or strength != 1:
            output = torch.lerp(x, output, strength)
        pixels = output.clamp(0, 1).mul_(255).round_().to(torch.uint8)
        if (grey := _grey(x)).any():  # stays so, also where it came as colour
            pixels[grey] = pixels[grey].float().mean(1, keepdim=True).round().to(torch.uint8)
        return pixels

    def _strength(self, sources: list[Source]) -> float | Tensor:
        """One for all images, or (B, 1, 1, 1) by the QF of each."""
        strength = self.options.strength
        if isinstance(strength, (int, float)):
            return float(strength)
        points, values = np.array(strength).T
        found = np.interp([self._quality(source) for source in sources], points, values).astype(np.float32)
        return torch.from_numpy(found).to(self.device).view(-1, 1, 1, 1)


def _grey(x: Tensor) -> Tensor:
    """Whether all pixels of an image are gray: (B, 3, H, W) -> (B,) bool. A few tell of most pictures that they are not."""

    def equal(x: Tensor) -> Tensor:
        return (x[:, :1] == x[:, 1:]).flatten(1).all(1)

    found = equal(x[..., ::16, ::16])
    return found & equal(x) if found.any() else found


@functools.lru_cache(maxsize=4)
def restorer_of(options: Options) -> Restorer:
    """The process's one restorer for these options, made at the first call."""
    return Restorer(**asdict(options))


@functools.lru_cache(maxsize=16)
def _moved(options: Options, device: str) -> Options:
    return replace(options, device=device)


def restorer_on(device: str, options: Options) -> Restorer:
    """:func:`restorer_of` these options but for the device; they are checked once, not at each image of a pipeline."""
    return restorer_of(_moved(options, device))


def shared_restorer(**options) -> Restorer:
    """The process's one restorer for these options, made at the first call; pipelines that are rebuilt share it.

    A forked worker inherits its parent's networks, in shared memory, where there are some.
    """
    return restorer_of(Options(**options))
