"""``JPEGCompress``: a pipeline step that does to an image what a channel of JPEG files does."""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS

from dagn_pre import cache, codec
from dagn_pre.errors import UsageError
from dagn_pre.integrations.openmmlab.results import check_channels, check_place
from dagn_pre.side_information import SideInformationEncoder, adapter


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
        side_information: add side information to the JPEG, for DAGNRestore to find (:mod:`dagn_pre.side_information`).
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
        side_information: bool = False,
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
        cache.parse_size(cache_size)  # also where there is no folder yet
        self.cache = None if cache_dir is None else cache.Cache(cache_dir, cache_size)
        self.side = (side_model, side_lambda, side_weights) if side_information else None
        if self.side:
            side_encoder(*self.side)
        elif side_lambda is not None or side_weights is not None or side_model != adapter.TRUNK:
            raise UsageError("side_model, side_lambda and side_weights are about side_information, which is off")

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
        cached = "" if self.cache is None else f", cache_dir={str(self.cache_dir)!r}, cache_size={self.cache_size!r}"
        side = f", side_information={self.side}" if self.side else ""
        return f"JPEGCompress(quality={quality}, subsampling={self.subsampling!r}, prob={self.prob}{side}{cached})"


@functools.lru_cache(maxsize=8)
def side_encoder(model: str, lambda_rate: float | None, weights: str | None) -> SideInformationEncoder:
    """One of each in a process; the steps themselves stay small."""
    return SideInformationEncoder(model, lambda_rate, weights)
