"""``DAGNRestore``: a pipeline step that restores what JPEG did to an image."""

from __future__ import annotations

import logging
from pathlib import Path

from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from dagn_pre.errors import ImageError, UsageError
from dagn_pre.integrations.openmmlab.results import check_channels, check_place, named, noted_quality, source_file
from dagn_pre.integrations.workers import RestoringStep
from dagn_pre.options import Options


@TRANSFORMS.register_module()
class DAGNRestore(RestoringStep, BaseTransform):
    """Restore ``results["img"]`` with a :class:`dagn_pre.Restorer`, shared by all pipelines of a process.

    Required keys: img, (H, W, 3) uint8 BGR. Modified: img, same shape and type. Added: dagn_restored, bool, False where the
    image was left untouched; dagn_reason, why it was, else None; dagn_cached, bool, True where that was read from the cache.
    The image's quality is taken from, in this order: jpeg_quality, as JPEGCompress notes it; the header of the file at
    img_path (read again through mmengine.fileio); the pixels (blind). Side information, and whether dagn-pre has restored the
    image before, come from what JPEGCompress wrote, or from the file at img_path.

    The weights are loaded when the first image comes that needs them, in the process that it comes to; the object itself
    pickles to a few hundred bytes. In DataLoader workers torch keeps to one thread.

    Args:
        model, and all others: see :class:`dagn_pre.options.Options`, which defines them; ``device`` is "cpu" unless given.
            DataLoader workers that were forked cannot use CUDA: there "auto" means "cpu", and asking for CUDA is an error.
        on_error: "raise", or "pass" to log a warning that names the file and hand the image on untouched. It is about
            loaded images that cannot be restored (ImageError); files that cannot be read are the loading step's business.
        backend_args: how mmengine.fileio reads img_path; the same as the loading step's.

    Raises:
        UsageError: an option outside its range or of another name, an unknown model, or a cache_dir that holds other things
            (at construction); CUDA in a forked worker.
        WeightsError: weights that are missing or do not fit.
        ConfigError: the step stands after Resize, Pad or a flip, or after a loading step with ``to_float32=True``.
        ImageError: an image that is not (H, W, 3), or has no pixels.
    """

    def __init__(
        self,
        model: str | Path = Options.model,
        *,
        on_error: str = "raise",
        backend_args: dict | None = None,
        **options,
    ) -> None:
        if on_error not in ("raise", "pass"):
            raise UsageError(f'on_error must be "raise" or "pass", not {on_error!r}')
        self.set_options(model, options)
        self.on_error = on_error
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Restore one image; see the class for the keys."""
        check_place(self, results)
        image, restored, reason, cached = results["img"], False, None, False
        try:
            check_channels(image)
            found = self.restorer().restore(
                image, noted_quality(results), "bgr", source_file(results, self.backend_args), named(results)
            )
        except ImageError as error:
            if self.on_error == "raise":
                raise ImageError(f"cannot restore {named(results)}: {error}") from error
            reason = str(error)
            print_log(f"DAGNRestore leaves {named(results)} as it is: {error}", "current", logging.WARNING)
        else:
            image, restored, reason, cached = found.image, found.restored, found.reason, found.cached
            for note in found.notes:
                print_log(f"DAGNRestore: {note}", "current", logging.WARNING)
        results |= {"img": image, "dagn_restored": restored, "dagn_reason": reason, "dagn_cached": cached}
        return results

    def __repr__(self) -> str:
        own = {"on_error": self.on_error, "backend_args": self.backend_args}
        return f"DAGNRestore({', '.join(f'{key}={value!r}' for key, value in {**self.options, **own}.items())})"
