"""Pictures for the report: the images that restoring helps or harms most, as they were scored, with what the model found."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from dagn_pre import codec
from dagn_pre.benchmarks.downstream.hosts.runner import HostRunner
from dagn_pre.benchmarks.downstream.inputs import Restoring
from dagn_pre.errors import DagnPreError
from dagn_pre.files import write_atomic

LEAST_SCORE = 0.3  # of the boxes that are drawn


def show(host: HostRunner, folder: Path, index: int, quality: int, label: str, restorer: Restoring) -> dict:
    """Write one image's files below ``folder``/gallery and return what results.json's gallery says of them.

    Args:
        host: the model's runner.
        folder: the work dir.
        index: of the image in the test data.
        quality: QF.
        label, restorer: the restorer's name in the results, and what it is.

    Raises:
        DagnPreError: compressing the image again does not give the pixels that were scored.
    """
    seen = {
        "original": host.look(index, None, None),
        "jpeg": host.look(index, quality, None),
        "restored": host.look(index, quality, restorer),
    }
    data = codec.encode(seen["original"].image, quality)
    if not np.array_equal(codec.decode(data), seen["jpeg"].image):
        name = seen["jpeg"].name
        raise DagnPreError(f"{name} at QF {quality} is not what was scored: the JPEG library has changed; use --overwrite")
    place = f"gallery/{slug(Path(host.cfg.filename).stem)}"
    stem = f"{place}/{index}-{slug(Path(seen['original'].name).stem)}"  # names may come again in another folder
    names = {"original": f"{stem}-original", "jpeg": f"{stem}-qf{quality}", "restored": f"{stem}-qf{quality}-{slug(label)}"}
    files = {"original": f"{names['original']}.png", "jpeg": f"{names['jpeg']}.jpg", "restored": f"{names['restored']}.png"}
    write_atomic(folder / files["jpeg"], data)
    for view in ("original", "restored"):
        write_atomic(folder / files[view], png(Image.fromarray(seen[view].image)))
    entry = {"image": seen["original"].name, "size": list(seen["original"].image.shape[:2]), "files": files}
    if seen["original"].mask is None:
        found = {view: [box for box in one.boxes if box["score"] >= LEAST_SCORE] for view, one in seen.items()}
        return {**entry, "truth": seen["original"].truth, "predictions": found}
    masks = {view: f"{name}-mask.png" for view, name in names.items()}
    for view, one in seen.items():
        write_atomic(folder / masks[view], palette_png(one.mask, host.palette))
    truth = f"{stem}-truth-mask.png"
    write_atomic(folder / truth, palette_png(seen["original"].truth, host.palette))
    return {**entry, "truth": truth, "predictions": masks, "classes": dict(zip(host.classes, host.palette))}


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
