"""A made-up run for the report: two models, one of them also fine-tuned, two restorers, intervals, comparisons and pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

QUALITIES = (10, 20, 40, 75, 90)
CLASSES = {"sky": [128, 128, 128], "road": [128, 64, 128], "car": [0, 0, 192]}
MODELS = (  # task, model, data set, metric, original, what JPEG costs at QF 10
    ("object detection", "Faster R-CNN", "COCO val2017", "bbox_mAP", 30.75, 9.0),
    ("semantic segmentation", "PSPNet", "CamVid", "mIoU", 58.0, 14.0),
    ("semantic segmentation", "PSPNet, JPEG-augmented", "CamVid", "mIoU", 56.5, 5.0),
)
SHARES = {"dagn-s": 0.8, "other": 0.45}  # of the loss that a restorer wins back


def restored_gain(label: str, quality: int, loss: float) -> float:
    """Points above JPEG; the second restorer harms where there is little to win."""
    return SHARES[label] * loss if quality < 75 else {"dagn-s": 0.0, "other": -1.5}[label]


def content() -> dict:
    """results.json without a gallery."""
    rows, comparisons, equal_size, halves = [], [], [], []
    for task, model, dataset, metric, original, loss in MODELS:
        head = {"task": task, "model": model, "dataset": dataset}
        losses = {quality: loss * math.exp(-(quality - 10) / 25) for quality in QUALITIES}
        cells = [("original", None, original)]
        cells += [("jpeg", quality, original - losses[quality]) for quality in QUALITIES]
        for label in SHARES:
            for quality in QUALITIES:
                gain = restored_gain(label, quality, losses[quality])
                cells.append((label, quality, original - losses[quality] + gain))
                width = 0.0 if quality >= 75 and not gain else 0.8
                share = 100 * gain / losses[quality]
                comparisons.append({
                    **head, "input": label, "qf": quality, "against": "jpeg", "difference": round(gain, 3),
                    "low": round(gain - width, 3), "high": round(gain + width, 3), "share": round(share, 1),
                    "share_low": round(share - 12, 1) if quality < 40 else None,
                    "share_high": round(share + 10, 1) if quality < 40 else None,
                    "images_better": 120 if gain > 0 else 3, "images_worse": 30 if gain >= 0 else 50,
                })  # fmt: skip
                halves.append({**head, "input": label, "qf": quality})
                for half, change in (("first", width / 2), ("second", -width / 2)):
                    # The second model is helped up to QF 20, as far as the second half confirms; the last not at the lowest QF.
                    less = {("PSPNet", "second"): 40, ("PSPNet, JPEG-augmented", "first"): 10}.get((model, half))
                    value = 0.1 if quality == less else gain + change
                    ends = {f"{half}_low": round(value - 2 * width, 3), f"{half}_high": round(value + 2 * width, 3)}
                    halves[-1] |= {half: round(value, 3), **ends}
        for against, difference in (("jpeg", 2.5), ("dagn-s", -0.25)):
            equal_size.append({
                **head, "input": "dagn-s+side", "qf": 10, "against": against, "bytes": 4321.5, "value": original, "low": None,
                "against_value": original - difference, "difference": difference, "high": difference + 0.5,
            } | ({} if against == "jpeg" else {"low": difference - 0.5}))  # fmt: skip
        for label, quality, value in cells:
            rows.append({
                **head, "input": label, "qf": quality, "metric": metric, "value": round(value, 3), "n_images": 200,
                "restore_ms_per_image": 0.0 if label in ("original", "jpeg") else {"dagn-s": 41.5, "other": 95.0}[label],
                "model_ms_per_image": 62.0, "low": round(value - 2.4, 3), "high": round(value + 2.6, 3),
                "per_class": {name: value + 7 * index - 7 for index, name in enumerate(CLASSES)} | {"tram": None},
            })  # fmt: skip
    environment = {
        "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "decoder": {"pillow": "13.0.0, libjpeg-turbo 3.2.0"},
        "threads": 2, "device": "CPU (some)", "platform": "Linux x86_64", "commit": None,
        "limit": None, "subset": 200, "seed": 0,
        "models": {f"{model}, {dataset}": {"checkpoint": f"{model}.pth"} for _, model, dataset, *_ in MODELS},
        "restorers": {"dagn-s": "0123", "other": "4567"},
    }  # fmt: skip
    environment["models"]["PSPNet, JPEG-augmented, CamVid"]["variant_of"] = "PSPNet"
    tables = {"rows": rows, "comparisons": comparisons, "equal_size": equal_size, "halves": halves, "advice": advice()}
    return {**tables, "files": [], "gallery": [], "environment": environment}


def advice() -> list[dict]:
    """What follows from the halves: one model to restore for, one where the second half confirms less, one to leave alone."""
    none = {
        "decision": "leave alone", "images": [100, 100], "restorer": None, "max_quality": None, "strength": None,
        "qualities": [], "inputs": [], "unconfirmed": [], "following": None, "alternatives": [],
        "restore_ms_per_image": None, "model_ms_per_image": None,
    }  # fmt: skip
    some = {**none, "decision": "restore", "restorer": "dagn-s", "strength": 1.0, "model_ms_per_image": 62.0}
    found = (
        {**some, "max_quality": 41, "qualities": [10, 20, 40], "inputs": 3 * ["dagn-s"], "following": 75,
         "restore_ms_per_image": 41.5},
        {**some, "max_quality": 21, "qualities": [10, 20], "inputs": 2 * ["dagn-s"], "unconfirmed": [40], "following": 40,
         "alternatives": ["other"]},
        none,
    )  # fmt: skip
    heads = [{"task": task, "model": model, "dataset": dataset} for task, model, dataset, *_ in MODELS]
    return [{**head, **one} for head, one in zip(heads, found)]


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Something to look at: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [128 + 70 * np.sin(x / (7 + seed + c) + c) * np.cos(y / (15 - c)) for c in range(3)]
    return (np.stack(waves, axis=2) + rng.normal(0, 9, (*size, 3))).clip(0, 255).astype(np.uint8)


def palette_png(path: Path, seed: int, size: tuple[int, int]) -> None:
    """A mask of three classes, as a palette PNG."""
    y, x = np.mgrid[: size[0], : size[1]]
    mask = Image.fromarray(((x // 24 + y // (20 + seed)) % 3).astype(np.uint8))
    mask.putpalette([value for colour in CLASSES.values() for value in colour])
    mask.save(path)


def add_gallery(results: dict, folder: Path, size: tuple[int, int] = (96, 128)) -> None:
    """Pictures, boxes and masks of one gain and one harm for each model and restorer at QF 10 and 40."""
    (folder / "gallery").mkdir(parents=True)
    height, width = size
    for number, (task, model, dataset, *_) in enumerate(MODELS):
        for index, (kind, change) in enumerate((("gain", 21.4), ("harm", -8.4))):
            stem = f"gallery/{number}{kind}"
            original = picture(3 * number + index, size)
            Image.fromarray(original).save(folder / f"{stem}-original.png")
            for quality in (10, 40):
                Image.fromarray(original).save(folder / f"{stem}-qf{quality}-jpeg.jpg", quality=quality)
                with Image.open(folder / f"{stem}-qf{quality}-jpeg.jpg") as image:
                    mixed = (0.6 * original + 0.4 * np.array(image)).astype(np.uint8)
                Image.fromarray(mixed).save(folder / f"{stem}-qf{quality}-restored.png")
                files = {"original": f"{stem}-original.png", "jpeg": f"{stem}-qf{quality}-jpeg.jpg"}
                files["restored"] = f"{stem}-qf{quality}-restored.png"
                truth: list | str = [
                    {"box": [8, 10, 60, 70], "label": "person"},
                    {"box": [width - 40, 30, width - 4, height - 8], "label": "dog"},
                ]
                predictions: dict = {
                    "original": [{**box, "score": 0.93} for box in truth],
                    "jpeg": [{"box": [70, 4, 110, 40], "label": "kite", "score": 0.41}],
                    "restored": [{"box": [9, 12, 58, 70], "label": "person", "score": 0.81}],
                }
                if task.startswith("semantic"):
                    truth, predictions = f"{stem}-truth.png", {}
                    palette_png(folder / truth, 0, size)
                    for seed, view in enumerate(("original", "jpeg", "restored")):
                        predictions[view] = f"{stem}-qf{quality}-{view}-mask.png"
                        palette_png(folder / predictions[view], seed, size)
                for restorer in SHARES:
                    results["gallery"].append({
                        "task": task, "model": model, "dataset": dataset, "input": restorer, "qf": quality, "kind": kind,
                        "image": f"{kind} & <b>{number}</b>.png", "size": [height, width],
                        "scores": {"original": 60.0, "jpeg": 30.0, "restored": 30.0 + change},
                        "files": files, "truth": truth, "predictions": predictions, "classes": CLASSES,
                    })  # fmt: skip


def make(folder: Path, gallery: bool = True) -> dict:
    """Write the run into ``folder``; returns what results.json holds."""
    folder.mkdir(parents=True, exist_ok=True)
    results = content()
    if gallery:
        add_gallery(results, folder)
    (folder / "results.json").write_text(json.dumps(results))
    return results
