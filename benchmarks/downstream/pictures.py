"""Pictures for the report: the images that restoring helps or harms most, as they were scored, with what the model found."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dagn_pre import codec
from dagn_pre.benchmarks.downstream import cells
from dagn_pre.benchmarks.downstream.cases import Case
from dagn_pre.benchmarks.downstream.hosts.runner import HostRunner
from dagn_pre.benchmarks.downstream.inputs import RestoredInput
from dagn_pre.benchmarks.results import Results, rounded
from dagn_pre.errors import DagnPreError
from dagn_pre.files import write_atomic

LEAST_SCORE = 0.3  # of the boxes that are drawn
SHOWN = 40  # beside the lowest QF, the one whose images the report shows


@dataclass(frozen=True)
class Shown:
    """An image that belongs in the gallery: of an input at a QF, a "gain" or a "harm", with its own scores by view."""

    label: str
    quality: int
    kind: str
    index: int
    scores: dict[str, float | None]


def missing(
    case: Case, restored: dict[str, RestoredInput], qualities: list[int], results: Results, work_dir: Path
) -> Iterator[Shown]:
    """What belongs in the gallery of a case and is not there, where the cells that decide it are."""
    for quality in sorted({min(qualities), SHOWN} & set(qualities)):
        for label in restored:
            inputs: list[cells.Cell] = [("original", None), ("jpeg", quality), (label, quality)]
            there = all(results.holds(**case.key(*one)) for one in inputs)
            if not there or results.holds("gallery", **case.key(label, quality)):
                continue
            scores = [cells.read(cells.path(case, *one, work_dir))[0].per_image() for one in inputs]
            views = dict(zip(("original", "jpeg", "restored"), scores))
            for kind, index in chosen(views["jpeg"], views["restored"]):
                yield Shown(label, quality, kind, index, {view: rounded(values[index]) for view, values in views.items()})


def chosen(jpeg: np.ndarray, restored: np.ndarray, count: int = 3) -> Iterator[tuple[str, int]]:
    """("gain" or "harm", image): those whose own score, as of ``per_image``, rises, then falls, the most against JPEG."""
    gains = np.nan_to_num(restored - jpeg)
    order = np.argsort(-gains, kind="stable")
    yield from (("gain", int(index)) for index in order[:count] if gains[index] > 1e-6)
    yield from (("harm", int(index)) for index in order[::-1][:count] if gains[index] < -1e-6)


def entry(case: Case, host: HostRunner, work_dir: Path, restored: dict[str, RestoredInput], one: Shown) -> dict:
    """The gallery's entry for one image, its files written."""
    shown = show(host, work_dir, one.index, one.quality, one.label, restored[one.label])
    return {**case.key(one.label, one.quality), "kind": one.kind, "scores": one.scores, **shown}


def show(host: HostRunner, folder: Path, index: int, quality: int, label: str, restored: RestoredInput) -> dict:
    """Write one image's files below ``folder``/gallery and return what results.json's gallery says of them.

    Args:
        host: the model's runner.
        folder: the work dir.
        index: of the image in the test data.
        quality: QF.
        label, restored: the input's name in the results, and what it is.

    Raises:
        DagnPreError: compressing the image again does not give the pixels that were scored.
    """
    views = {
        "original": host.predict(index, None, None),
        "jpeg": host.predict(index, quality, None),
        "restored": host.predict(index, quality, restored),
    }
    data = codec.encode(views["original"].image, quality)
    if not np.array_equal(codec.decode(data), views["jpeg"].image):
        name = views["jpeg"].name
        raise DagnPreError(f"{name} at QF {quality} is not what was scored: the JPEG library has changed; use --overwrite")
    place = f"gallery/{slug(Path(host.cfg.filename).stem)}"
    stem = f"{place}/{index}-{slug(Path(views['original'].name).stem)}"  # names may come again in another folder
    names = {"original": f"{stem}-original", "jpeg": f"{stem}-qf{quality}", "restored": f"{stem}-qf{quality}-{slug(label)}"}
    files = {"original": f"{names['original']}.png", "jpeg": f"{names['jpeg']}.jpg", "restored": f"{names['restored']}.png"}
    write_atomic(folder / files["jpeg"], data)
    for view in ("original", "restored"):
        write_atomic(folder / files[view], png(Image.fromarray(views[view].image)))
    entry = {"image": views["original"].name, "size": list(views["original"].image.shape[:2]), "files": files}
    truth = views["original"].truth
    if not isinstance(truth, np.ndarray):
        found = {view: [box for box in one.boxes if box["score"] >= LEAST_SCORE] for view, one in views.items()}
        return {**entry, "truth": truth, "predictions": found}
    masks = {view: f"{name}-mask.png" for view, name in names.items()}
    for view, one in views.items():
        if one.mask is not None:
            write_atomic(folder / masks[view], palette_png(one.mask, host.palette))
    truth_file = f"{stem}-truth-mask.png"
    write_atomic(folder / truth_file, palette_png(truth, host.palette))
    return {**entry, "truth": truth_file, "predictions": masks, "classes": dict(zip(host.classes, host.palette))}


def slug(text: str) -> str:
    """A name for files: letters, digits, dots, dashes, and the signs of inputs' names."""
    return re.sub(r"[^A-Za-z0-9.+@-]+", "-", text)


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def palette_png(mask: np.ndarray, palette: list) -> bytes:
    """A mask (H, W) of labels as a palette PNG; labels without a colour are black."""
    image = Image.fromarray(np.where(mask < len(palette), mask, len(palette)).astype(np.uint8))
    image.putpalette([value for colour in (*palette, (0, 0, 0)) for value in colour])
    return png(image)
