"""The two pipeline steps: ``JPEGCompress`` (what a channel does to an image) and ``DAGNRestore`` (what undoes it).

Both stand right after the loading step: ``results["img"]`` is the decoded image, (H, W, 3) uint8 in BGR order, and its
8x8 blocks are where the encoder put them. They are registered in mmengine's root ``TRANSFORMS``, which is also
``mmcv.transforms.TRANSFORMS`` and the parent of mmdet's and mmseg's, so that one registration serves every host.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from dataclasses import asdict

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine import fileio
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from dagn_pre import __version__, cache, codec, images, models
from dagn_pre.errors import ConfigError, ImageError, UsageError
from dagn_pre.integrations.workers import usable_device
from dagn_pre.restorer import Options, Strength, check_options, shared_restorer
from dagn_pre.side_information import SideInformationEncoder, adapter
from dagn_pre.side_information.adapter import Adapter
from dagn_pre.side_information.segment import SegmentError

# What Resize, Pad and RandomFlip of mmcv, mmdet and mmseg leave in ``results``, also when they changed no pixel.
TRACES = ("scale", "scale_factor", "pad_shape", "flip")


@TRANSFORMS.register_module()
class JPEGCompress(BaseTransform):
    """Compress ``results["img"]`` as JPEG and decode it again.

    Required keys: img, (H, W, 3) uint8 BGR. Modified: img. Added: jpeg_quality, the QF that was applied (int), and
    jpeg_digest, the SHA-256 of the JPEG's bytes (hexadecimal), jpeg_data, those bytes, and jpeg_subsampling; all absent
    where the image was left alone.

    Args:
        quality: QF 1..100, or (low, high), both included, to draw from uniformly per image. Draws come from NumPy's
            global generator, which mmengine seeds in each worker.
        subsampling: "4:4:4", "4:2:2" or "4:2:0".
        prob: the share of images to compress, 0..1.
        cache_dir: a folder that keeps the JPEG bytes (:class:`dagn_pre.cache.Cache`), which may be DAGNRestore's too; made if
            missing, None for none. Encoding is not slower than reading: it is for evidence, and for the same bytes
            with another version of the encoder.
        cache_size: the folder's bound, bytes or such as "10GB" or "500 MB".
        side_info: add side information to the JPEG, for DAGNRestore to find (:mod:`dagn_pre.side_information`).
        side_model, side_lambda, side_weights: as ``model``, ``lambda_rate`` and ``weights`` of ``SideInformationEncoder``.

    Raises:
        UsageError: a quality, subsampling, prob or cache_size outside its range, a cache_dir that holds other things, side
            information for a model that has none (at construction).
        ConfigError, ImageError: an image that is not uint8 with three channels, or comes after Resize, Pad or a flip.
    """

    def __init__(
        self,
        quality: int | tuple[int, int],
        subsampling: str = "4:2:0",
        prob: float = 1.0,
        cache_dir: str | None = None,
        cache_size: int | str = "10GB",
        side_info: bool = False,
        side_model: str = adapter.TRUNK,
        side_lambda: float | None = None,
        side_weights: str | None = None,
    ) -> None:
        low, high = quality if isinstance(quality, (tuple, list)) and len(quality) == 2 else (quality, quality)
        self.low, self.high = codec.check_quality(low), codec.check_quality(high)
        if self.low > self.high:
            raise UsageError(f"quality must be (low, high) with low <= high, not {quality!r}")
        self.subsampling = codec.check_subsampling(subsampling)
        if isinstance(prob, bool) or not isinstance(prob, (int, float)) or not 0 <= prob <= 1:
            raise UsageError(f"prob must be a number from 0 to 1, not {prob!r}")
        self.prob = prob
        self.cache_dir, self.cache_size = cache_dir, cache_size
        self.cache = open_cache(cache_dir, cache_size)
        self.side = (side_model, side_lambda, side_weights) if side_info else None
        if self.side:
            side_encoder(*self.side)
        elif side_lambda is not None or side_weights is not None or side_model != adapter.TRUNK:
            raise UsageError("side_model, side_lambda and side_weights are about side_info, which is off")

    @cache_randomness
    def draw(self) -> int | None:
        """The QF for the next image, None to leave it alone; always two draws, whatever ``prob`` and the range are."""
        keep, quality = np.random.rand(), np.random.randint(self.low, self.high + 1)
        return int(quality) if keep < self.prob else None

    def transform(self, results: dict) -> dict:
        """Compress one image; see the class for the keys."""
        check_place(self, results)
        check_channels(results["img"])
        quality = self.draw()
        if quality is not None:
            rgb = np.ascontiguousarray(results["img"][..., ::-1])
            data = self.encode(rgb, quality)
            results["img"] = np.ascontiguousarray(codec.decode(data)[..., ::-1])
            results["jpeg_quality"], results["jpeg_digest"] = quality, hashlib.sha256(data).hexdigest()
            results["jpeg_data"], results["jpeg_subsampling"] = data, self.subsampling
        return results

    def encode(self, rgb: np.ndarray, quality: int) -> bytes:
        """The JPEG of one image, from the cache if it is there."""
        encode, side = codec.encode, {}
        if self.side:
            encoder = side_encoder(*self.side)
            encode, side = encoder.encode, {"side": encoder.adapter.identity.hex()}
        if self.cache is None:
            return encode(rgb, quality, self.subsampling)
        key = cache.digest(rgb, quality=quality, subsampling=self.subsampling, encoder=codec.encoder(), **side)
        data = self.cache.get(key, "jpg")
        if data is None:
            data = encode(rgb, quality, self.subsampling)
            self.cache.put(key, "jpg", data)
        return data

    def __repr__(self) -> str:
        quality = self.low if self.low == self.high else (self.low, self.high)
        cached = cache_repr(self)
        side = f", side_info={self.side}" if self.side else ""
        return f"JPEGCompress(quality={quality}, subsampling={self.subsampling!r}, prob={self.prob}{side}{cached})"


@TRANSFORMS.register_module()
class DAGNRestore(BaseTransform):
    """Restore ``results["img"]`` with a :class:`dagn_pre.Restorer`, shared by all pipelines of a process.

    Required keys: img, (H, W, 3) uint8 BGR. Modified: img, same shape and type. Added: dagn_restored, bool, False where
    the image was left untouched; dagn_cached, bool, True where that was read from the cache. The image's quality is taken
    from, in this order: jpeg_quality, as JPEGCompress notes it; the header of the file at img_path (read again through
    mmengine.fileio); the pixels (blind).

    The weights are loaded when the first image comes, in the process that it comes to; the object itself pickles to a
    few hundred bytes. In DataLoader workers torch keeps to one thread.

    Args:
        model: a name from ``dagn_pre.models.names()``, or the path of a checkpoint.
        device: "cpu", "cuda", "cuda:1" or "auto". DataLoader workers that were forked cannot use CUDA: there "auto"
            means "cpu", and asking for CUDA is an error.
        max_quality: 1..101, images of this QF or better stay untouched; 101 restores everything.
        strength: 0..1, scales the correction; 0 leaves the image as it is. Or by QF, as of :class:`dagn_pre.Restorer`.
        tile: side of the tiles in pixels, a multiple of 16; 0 never tiles, None does so above 4 megapixels.
        dtype: "auto", "float32", "float16" or "bfloat16".
        on_error: "raise", or "pass" to log a warning that names the file and hand the image on untouched. It is about
            loaded images that cannot be restored (ImageError); files that cannot be read are the loading step's
            business, and a wrong config is always an error.
        backend_args: how mmengine.fileio reads img_path; the same as the loading step's.
        quality: 1..100 restores every image as one of this QF, whatever is known of it, and skips none; None for the above.
        cache_dir: a folder that keeps restored pixels, losslessly, for further epochs, processes and models
            (:class:`dagn_pre.cache.Cache`); made if missing, None for none. Where every image is in it, no weights are loaded.
        cache_size: the folder's bound, bytes or such as "10GB" or "500 MB".
        strict, assume_tables: as of :class:`dagn_pre.Restorer`.
        side_information: as of :class:`dagn_pre.Restorer`; it comes from what JPEGCompress wrote, or from the file at img_path.
        again: restore also what dagn-pre has restored, as the file at img_path says; otherwise it stays untouched.

    Raises:
        UsageError: an option outside its range, an unknown model, or a cache_dir that holds other things (at construction);
            CUDA in a forked worker.
        WeightsError: weights that are missing or do not fit.
        ConfigError: the step stands after Resize, Pad or a flip, or after a loading step with ``to_float32=True``.
        ImageError: an image that is not (H, W, 3), or has no pixels.
    """

    def __init__(
        self,
        model: str = "dagn-s",
        device: str = "cpu",
        max_quality: int = 90,
        strength: Strength = 1.0,
        tile: int | None = None,
        dtype: str = "auto",
        on_error: str = "raise",
        backend_args: dict | None = None,
        quality: int | None = None,
        cache_dir: str | None = None,
        cache_size: int | str = "10GB",
        strict: bool = False,
        assume_tables: bool = False,
        side_information: bool | str = True,
        again: bool = False,
    ) -> None:
        if on_error not in ("raise", "pass"):
            raise UsageError(f'on_error must be "raise" or "pass", not {on_error!r}')
        self.options = dict(
            model=model, device=device, max_quality=max_quality, strength=strength, tile=tile, dtype=dtype, quality=quality
        )
        switches = {"strict": strict, "assume_tables": assume_tables, "again": again}
        self.options.update({name: value for name, value in switches.items() if value})
        if side_information is not True:
            self.options["side_information"] = side_information
        check_options(**self.options)
        self.on_error = on_error
        self.backend_args = backend_args
        self.cache_dir, self.cache_size = cache_dir, cache_size
        self.cache = open_cache(cache_dir, cache_size)

    def transform(self, results: dict) -> dict:
        """Restore one image; see the class for the keys."""
        check_place(self, results)
        image, cached = results["img"], False
        try:
            check_channels(image)
            restored, cached = self.restore(image, results)
        except ImageError as error:
            if self.on_error == "raise":
                raise ImageError(f"cannot restore {named(results)}: {error}") from error
            print_log(f"DAGNRestore leaves {named(results)} as it is: {error}", "current", logging.WARNING)
            restored = image
        results["img"] = restored
        results["dagn_restored"] = restored is not image
        results["dagn_cached"] = cached
        return results

    def restore(self, image: np.ndarray, results: dict) -> tuple[np.ndarray, bool]:
        """The restored image, or ``image`` itself if it needs nothing, and whether the cache knew that."""
        data = file_of(results, self.backend_args)
        if data is not None and not self.options.get("again") and images.is_restored(data, image[..., ::-1]):
            return image, False
        quality = known_quality(results, data)
        options = check_options(**{**self.options, "device": usable_device(self.options["device"])})
        model = models.get(options.model)
        known = quality and quality.value
        if model.needs == "file":
            if options.strength == 0 or (known is not None and options.quality is None and known >= options.max_quality):
                return image, False
            return self.decoded(options, quality, results), False
        side = self.side(options, data, results)
        hints = {"quality": quality, "channel_order": "bgr", "data": data if side else None, "name": named(results)}
        if self.cache is None or not image.size:
            return shared_restorer(**vars(options))(image, **hints), False
        if quality is not None and (model.needs == "tables" or getattr(model.config, "tables", False)):
            known = [quality.value, quality.tables, quality.subsampling]
        # By the very symbols: not every file of the same bytes can use them, nor with other weights at hand.
        side = {"side": [side[0].identity.hex(), hashlib.sha256(side[1].tobytes()).hexdigest()]} if side else {}
        key = cache.digest(image, known_quality=known, weights=weights(options.model), **side, **identity(options))
        kept = self.cache.get(key, "png")
        if kept is not None:
            return np.ascontiguousarray(codec.decode(kept)[..., ::-1]), True
        if self.cache.get(key, "untouched") is not None:
            return image, True
        restorer = shared_restorer(**vars(options))
        restored = restorer(image, **hints)
        # By the weights that did it: the file may have been replaced since this process first looked.
        key = cache.digest(image, known_quality=known, weights=restorer.fingerprint, **side, **identity(options))
        if restored is image:
            self.cache.put(key, "untouched", b"")
        else:
            self.cache.put(key, "png", cache.to_png(np.ascontiguousarray(restored[..., ::-1])))
        return restored, False

    def side(self, options: Options, data: bytes | None, results: dict) -> tuple[Adapter, np.ndarray] | None:
        """The side information in the image's file, decoded; None where there is none, or, with a warning, none of use."""
        if data is None or options.side_information is False or not adapter.may_carry(data):
            return None
        try:  # looking for the weights reads files: not for every image
            known = adapter.known(options.side_information, weights(options.model), str(options.model))
            return adapter.read_for_array(data, known, *results["img"].shape[:2])
        except SegmentError as error:
            print_log(f"DAGNRestore: {named(results)}: {error}; restored without it", "current", logging.WARNING)
            return None

    def decoded(self, options: Options, quality: codec.Quality | None, results: dict) -> np.ndarray:
        """BGR pixels by a model that decodes the file itself."""
        try:
            data = source_file(results, self.backend_args)
        except OSError as error:
            raise ImageError(f"model {options.model!r} works on the file, which cannot be read ({error})") from error
        if data is None:
            raise ImageError(f"model {options.model!r} works on JPEG files, and there is none")
        restored = shared_restorer(**vars(options))(data, quality=quality)
        if restored.shape != results["img"].shape:
            sizes = f"{restored.shape[1]}x{restored.shape[0]}, not {results['img'].shape[1]}x{results['img'].shape[0]}"
            raise ImageError(f"model {options.model!r} decodes the file itself, and upright it is {sizes} as loaded")
        return np.ascontiguousarray(restored[..., ::-1])

    def __repr__(self) -> str:
        options = dict(self.options, on_error=self.on_error, backend_args=self.backend_args)
        return f"DAGNRestore({', '.join(f'{key}={value!r}' for key, value in options.items())}{cache_repr(self)})"


@functools.lru_cache(maxsize=8)
def side_encoder(model: str, lambda_rate: float | None, weights: str | None) -> SideInformationEncoder:
    """One of each in a process; the steps themselves stay small."""
    return SideInformationEncoder(model, lambda_rate, weights)


weights = functools.lru_cache(maxsize=8)(models.fingerprint)  # hashed once in a process; no network is loaded


def identity(options: Options) -> dict:
    """Everything about a restorer but its weights that decides its pixels, as JSON values."""
    device = options.resolved_device()
    decides = dict(device=device.type, dtype=str(options.resolved_dtype(device)), version=__version__)
    others = ("model", "side_information", "strict_files", "again")
    return {key: value for key, value in {**asdict(options), **decides}.items() if key not in others}


def open_cache(folder: str | None, size: int | str) -> cache.Cache | None:
    """The cache that a step was given; its size is checked also where there is none."""
    cache.parse_size(size)
    return None if folder is None else cache.Cache(folder, size)


def cache_repr(step: BaseTransform) -> str:
    """How a step shows its cache, if it has one."""
    return "" if step.cache is None else f", cache_dir={str(step.cache_dir)!r}, cache_size={step.cache_size!r}"


def source_file(results: dict, backend_args: dict | None) -> bytes | None:
    """The file that the pixels are from: what JPEGCompress wrote, else the one at img_path, read through mmengine.fileio with
    ``backend_args``; None where none is named (arrays come with img_path=None). Raises OSError where it cannot be read."""
    data, path = results.get("jpeg_data"), results.get("img_path")
    return fileio.get(path, backend_args=backend_args) if data is None and path else data


def file_of(results: dict, backend_args: dict | None) -> bytes | None:
    """:func:`source_file`, or None where it cannot be read: the loader then got its pixels elsewhere."""
    try:
        return source_file(results, backend_args)
    except OSError:
        return None


def known_quality(results: dict, data: bytes | None) -> codec.Quality | None:
    """What is known of the image's quality before looking at its pixels: as JPEGCompress noted it, else from the header of
    its file; None if nothing is."""
    noted = results.get("jpeg_quality")
    if noted is not None:
        return codec.given_quality(noted, results.get("jpeg_subsampling"))
    try:
        header = images.header(data) if data else None
    except ImageError:  # of a format without such a header
        header = None
    if header is None:
        return None
    # A file of another size is not what the pixels are from; EXIF may have turned them.
    same = sorted((header.height, header.width)) == sorted(results["img"].shape[:2])
    return header.quality if same else None


def check_place(step: BaseTransform, results: dict) -> None:
    """Raise ConfigError if an earlier step has moved the 8x8 blocks or made the pixels something other than uint8."""
    image, step_name = results["img"], type(step).__name__
    traces = [key for key in TRACES if key in results]
    loaded = results.get("ori_shape", image.shape[:2])
    if traces or tuple(loaded[:2]) != image.shape[:2]:
        found = f"results hold {', '.join(map(repr, traces))}" if traces else f"{loaded} became {image.shape[:2]}"
        raise ConfigError(
            f"{step_name} must come right after the step that loads the image, before any Resize, Pad, crop or flip "
            f"({found}): JPEG's 8x8 blocks lie where the decoder put them, and only there can they be restored"
        )
    if image.dtype != np.uint8:
        raise ConfigError(
            f"{step_name} needs uint8 pixels, not {image.dtype}: set to_float32=False in the step that loads the "
            "image, and put Normalize after it"
        )


def check_channels(image: np.ndarray) -> None:
    """Raise ImageError unless ``image`` is (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f'the image must be (H, W, 3) BGR, not {image.shape}; load it with color_type="color"')


def named(results: dict) -> str:
    """The image's path, or words for an image that came as an array."""
    return str(results.get("img_path") or "an image given as an array")
