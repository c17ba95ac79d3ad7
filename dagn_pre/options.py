"""The options of a restorer: defined here once, for :class:`dagn_pre.Restorer` and for every adapter to a host."""

from __future__ import annotations

import difflib
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dagn_pre import cache, codec, engines, models
from dagn_pre.defaults import LOSSLESS_MODES, MAX_QUALITY, MODEL, RESTORE_LOSSLESS
from dagn_pre.errors import UsageError
from dagn_pre.side_information import adapter as side_information_files

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}
STRIDE = 16  # of every model's, the largest: tiles start at its multiples
SWITCHES = ("strict", "assume_tables", "expect_side_information", "strict_files", "again")
# What decides outputs, of what the command line sets; where and how they are computed moves roundings alone.
DECISIVE = (
    "model", "max_quality", "restore_lossless", "strength", "tile", "dtype", "strict", "assume_tables", "strict_files", "again",
    "assume_quality", "side_information",
)  # fmt: skip

Strength = float | Mapping[int, float] | Sequence[Sequence[float]]  # one, or by QF


@dataclass(frozen=True)
class Options:
    """What ``Restorer(**options)`` takes, and so every adapter. Checked, hashable, and cheap to make: no weights are loaded.

    Attributes:
        model: a registered name (``dagn_pre.models.names()``) or the path of a checkpoint: one of ours, one that ``spandrel``
            recognises, or with ``{qf}`` in its name one per QF (:mod:`dagn_pre.models`).
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:N".
        max_quality: 1..100, at or above this QF an image is returned as it came; None restores every image.
        restore_lossless: what to do with an image of which neither its file nor the caller tells a QF (a PNG, an array).
            "blind" restores it where its pixels show that it was a JPEG (:mod:`dagn_pre.evidence`) and the model's blind
            estimate, if it makes one, is below ``max_quality``; "always" goes by the estimate alone, which is wrong off
            photographs; "never" returns it as it came. "blind" is "always" under ``max_quality=None``, and under
            ``assume_quality`` each of them is.
        strength: 0..1, scales the correction; 0 returns the input exactly. Or such a number by QF, ``{10: 1.0, 40: 0.5}`` or
            pairs ``[(10, 1.0), (40, 0.5)]``, which survive a config's JSON: linear in between, constant beyond the ends.
        tile: None tiles images above 4 megapixels by 1024 pixels; 0 never tiles; otherwise the tile's side, a multiple of 16.
        overlap: how many pixels a tile sees beyond its border; None is the network's receptive radius, with which tiled
            equals untiled up to rounding. Guidance always comes from the whole image, once.
        dtype: "auto" (bfloat16 on a GPU that has it, else float32), "float32", "bfloat16", "float16"; applied by autocast, so
            the sum of input and correction stays float32. On CPUs with AMX "bfloat16" takes 0.4 of the time and moves PSNR
            by less than 0.002 dB (dagn-s, five images of LIVE1, QF 10 and 40); "auto" leaves it, since one pixel value in
            seven then differs, by up to 3 of 255, and results would depend on the CPU. "int8" (OpenVINO on a CPU, extra
            "int8") has the convolutions of the local part in int8: docs/engines.md says what that costs and gains.
        engine: what computes the networks: "torch"; "openvino" or "onnxruntime", inference engines for the CPU (extras of the
            same names; dtype "float32", OpenVINO also "bfloat16" and "int8"), which give the same pixels but for roundings,
            within 1 of 255 in float32; "tensorrt" on a GPU, where it was never run yet (docs/engines.md); "auto" takes
            OpenVINO where it is installed, the device is a CPU and the model can be made a graph, else torch. The first use
            of a model takes seconds, later ones find its graphs in the user's cache folder
            (:func:`dagn_pre.engines.folder`).
        assume_quality: 1..100, the QF of every image, set by hand: its compression-sensitive vector is replaced by that QF's
            mean over the training set, so that lower corrects more. For images that were compressed more than once, or resized
            since: their headers lie, and so may their pixels. Nothing is skipped then, whatever ``max_quality``, header or
            ``quality`` say.
        strict: refuse an image of a QF that no model was trained for, where there is one model per QF; otherwise the nearest
            is taken, with a warning.
        assume_tables: for models that need quantisation tables, or the QF: take IJG's standard ones for the QF that the
            default model reads from the pixels, where an image has none of its own (a PNG); otherwise that is an error.
        side_information: use what the sender has added to a JPEG file (:mod:`dagn_pre.side_information`), where weights for
            it are here; True takes the shipped ones, a path those of that file, False ignores it. What is damaged or
            unknown is named in a warning, and the image restored as if it were not there.
        expect_side_information: also name in a warning each image that comes without side information.
        strict_files: refuse a JPEG file that lacks its end marker; otherwise, where nothing else is missing, it is restored
            with a warning.
        again: restore also a file that says that dagn-pre has restored it, as those of ``dagn-pre restore`` do; otherwise it is
            returned as it came, whatever ``assume_quality`` and ``max_quality`` say.
        cache_dir: a folder that keeps restored pixels, losslessly, for later calls, processes and models
            (:class:`dagn_pre.cache.Cache`); made if missing, None for none. With one, weights are loaded when the first image
            comes that is not in it. Tensors are copied to the CPU to look them up.
        cache_size: the folder's bound, bytes or such as "10GB" or "500 MB".

    Raises:
        UsageError: an option outside its range, an unknown model.
        WeightsError: weights that are missing or damaged.
    """

    model: str | Path = MODEL
    device: str = "auto"
    max_quality: int | None = MAX_QUALITY
    restore_lossless: str = RESTORE_LOSSLESS
    strength: Strength = 1.0
    tile: int | None = None
    overlap: int | None = None
    dtype: str = "auto"
    engine: str = "torch"
    assume_quality: int | None = None
    strict: bool = False
    assume_tables: bool = False
    side_information: bool | str | Path = True
    expect_side_information: bool = False
    strict_files: bool = False
    again: bool = False
    cache_dir: str | Path | None = None
    cache_size: int | str = "10GB"

    def __post_init__(self) -> None:
        model = models.get(self.model)
        if self.assume_quality is not None:
            codec.check_quality(self.assume_quality)
            if model.quality_override is False:
                raise UsageError(f"a quality set by hand has no effect on model {str(self.model)!r}")
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if not isinstance(self.side_information, (bool, str, Path)):
            raise UsageError(f"side_information must be True, False or a weights file, not {self.side_information!r}")
        if not isinstance(self.side_information, bool):
            side_information_files.check_weights(self.side_information)
        if self.dtype not in ("auto", *DTYPES):
            raise UsageError(f"dtype must be auto, {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.engine not in engines.ENGINES:
            raise UsageError(f"engine must be one of {', '.join(engines.ENGINES)}, not {self.engine!r}")
        if self.dtype == "int8" and self.engine not in ("auto", "openvino"):
            raise UsageError(f"dtype 'int8' is for engine='openvino' on a CPU, not for {self.engine!r}")
        if not (self.cache_dir is None or isinstance(self.cache_dir, (str, Path))):
            raise UsageError(f"cache_dir must be None or a folder, not {self.cache_dir!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(self.device)):
            raise UsageError(f"device must be auto, cpu, cuda or cuda:N, not {self.device!r}")
        _check_max_quality(self.max_quality)
        if self.restore_lossless not in LOSSLESS_MODES:
            raise UsageError(f"restore_lossless must be {', '.join(LOSSLESS_MODES)}, not {self.restore_lossless!r}")
        object.__setattr__(self, "strength", _check_strength(self.strength))  # by QF: pairs in a tuple, ascending
        for name, value in (("tile", self.tile), ("overlap", self.overlap)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise UsageError(f"{name} must be None or a number of pixels, not {value!r}")
        if self.tile and self.tile % STRIDE:
            raise UsageError(f"tile must be a multiple of {STRIDE}, not {self.tile}")
        cache.parse_size(self.cache_size)

    @cached_property
    def needs_file(self) -> bool:
        """Whether the model works on a JPEG's bytes, so that pixels alone will not do."""
        return models.get(self.model).needs == "file"

    @cached_property
    def refuses_pixels(self) -> bool:
        """Whether an image without a JPEG file is an error: the model works on files, or on tables that it may not assume."""
        return self.needs_file or (models.get(self.model).needs == "tables" and not self.assume_tables)

    def resolved_device(self) -> torch.device:
        """ "auto" takes CUDA where there is one; raises UsageError for CUDA where there is none."""
        available = torch.cuda.is_available()
        if self.device == "auto":
            return torch.device("cuda" if available else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise UsageError(f"device {self.device!r} was asked for, but torch finds {count} CUDA device(s); use device='cpu'")
        return device

    def resolved_engine(self, device: torch.device) -> str:
        """ "auto": see ``engine``; raises UsageError for one that is not installed or does not work there."""
        return engines.resolve(self.engine, device, self.resolved_dtype(device))

    def resolved_dtype(self, device: torch.device) -> torch.dtype:
        """ "auto": bfloat16 on a GPU that has it, else float32; raises UsageError for what this torch cannot do there."""
        if self.dtype != "auto":
            try:
                if self.dtype not in ("float32", "int8"):
                    torch.autocast(device.type, DTYPES[self.dtype])
            except RuntimeError as error:  # torch 2.1 has no float16 on the CPU
                raise UsageError(f"dtype {self.dtype!r} is not possible on {device.type}: {error}") from error
            return DTYPES[self.dtype]
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def check_options(**options) -> Options:
    """The options, checked; no weights are loaded, and no folder is made.

    Raises:
        UsageError: as :class:`Options`, an option of another name, or a ``cache_dir`` that holds other things.
        WeightsError: as :class:`Options`.
    """
    known = [field.name for field in fields(Options)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"a restorer has no option {name!r}; {meant}")
    checked = Options(**options)
    if checked.cache_dir is not None:
        cache.check_folder(checked.cache_dir)
    return checked


def _check_max_quality(quality: int | None) -> None:
    if quality is not None and (isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100):
        raise UsageError(f"max_quality must be an integer from 1 to 100, or None to restore every image, not {quality!r}")


def _check_strength(strength: Strength) -> float | tuple[tuple[int, float], ...]:
    """A number as it is, a strength by QF as pairs by ascending QF."""
    if isinstance(strength, numbers.Real) and 0 <= float(strength) <= 1:
        return float(strength)  # of NumPy's, too
    pairs: Any = strength.items() if isinstance(strength, Mapping) else strength  # whatever a caller gives
    try:
        points = sorted((codec.check_quality(quality), float(value)) for quality, value in pairs)
    except (TypeError, ValueError):
        points = []
    if not points or len(dict(points)) < len(points) or not all(0 <= value <= 1 for _, value in points):
        raise UsageError(f"strength must lie in 0..1, or be such by QF, {{QF: strength}} or pairs of them, not {strength!r}")
    return tuple(points)
