"""What compression does to both encoders' features, as a picture (Figs. 4 and 6 of Ma et al., TIP 2024) and as distances
(``dagn-pre inspect --features``, ``dagn-pre bench features``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from dagn_pre import codec, models
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.benchmarks.restoration.datasets import read, scan
from dagn_pre.errors import UsageError
from dagn_pre.files import atomic_path
from dagn_pre.networks.blind_dagn import BlindDAGN
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.progress import bar
from dagn_pre.restorer import Restorer
from dagn_pre.sources import Source, as_array

ENCODERS = {"insensitive": "encoder_ci", "sensitive": "encoder_cs"}
MEASURES = ("global", "local", "centred", "others", "others_centred")


def load(model: str | Path, device: str = "auto") -> Restorer:
    """A restorer whose network has both encoders; raises UsageError for an ablation that lacks one."""
    config = models.get(model).config
    if not isinstance(config, DAGNConfig):
        raise UsageError(f"model {str(model)!r} is no DAGN, so it has no features to compare")
    if not (config.sensitive and (config.insensitive or config.fusion)):
        raise UsageError(f"model {str(model)!r} lacks one of the two encoders, so there is nothing to compare")
    return Restorer(model, device)


@torch.inference_mode()
def feature_maps(restorer: Restorer, image: np.ndarray) -> dict[str, Tensor]:
    """(H, W, 3) uint8 RGB -> {"insensitive": E_ci, "sensitive": E_cs}, (F, h, w) float32 on the CPU, at 1/16 of the size."""
    x = torch.from_numpy(image.copy()).to(restorer.device).permute(2, 0, 1)[None] / 255
    assert isinstance(restorer.model, BlindDAGN)  # of :func:`load`
    network = restorer.model.network
    x = network.pad(x)
    return {name: getattr(network, encoder)(x)[0].float().cpu() for name, encoder in ENCODERS.items()}


def cosine_distance(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """1 - cosine similarity along ``dim``: 0 the same direction, 1 unrelated, 2 opposite."""
    return 1 - F.cosine_similarity(a, b, dim=dim)


def feature_distances(
    model: str | Path, folder: Path, qualities: Sequence[int] = (10, 20, 30, 40), device: str = "auto"
) -> list[dict]:
    """How far JPEG moves the features of each encoder: one row per QF and encoder, means over a folder of originals.

    Features come out of a ReLU: none is negative, so any two images' are close to begin with, and a small cosine distance
    alone proves little. Hence two yardsticks: ``others``, how far different originals are from each other, and the same
    after the common part is taken away. An encoder is insensitive where the distance is small against ``others``, and
    sensitive where it is not; where ``others`` is small too, the encoder does not look at content.

    Returns:
        rows {"dataset", "model", "qf", "features", "global", "local", "centred", "others", "others_centred", "n_images"}:

        global          cosine distance of the spatial means of original and compressed
        local           cosine distance per position, its mean
        centred         as global, after subtracting the mean over all originals and their compressed versions of this QF
        others          cosine distance of the spatial means of two different originals, mean over all pairs
        others_centred  as others, after subtracting the same mean as in centred; None for a single image, as ``others``

    Raises:
        UsageError: an empty or missing folder, a QF outside 1..100, a model without both encoders.
        ImageError: none of the images can be read.
    """
    qualities = [codec.check_quality(quality) for quality in qualities]
    restorer = load(model, device)
    dataset = scan(Path(folder))
    means: dict[tuple[str, int | None], list[Tensor]] = {
        (name, quality): [] for name in ENCODERS for quality in (None, *qualities)
    }  # None: the originals
    local: dict[tuple[str, int | None], list[Tensor]] = {key: [] for key in means}
    for path in bar(dataset.paths, unit="image", leave=False):
        image = read(path)
        unharmed = feature_maps(restorer, image)
        for quality in (None, *qualities):
            maps = unharmed if quality is None else feature_maps(restorer, codec.compress(image, quality))
            for name in ENCODERS:
                means[name, quality].append(maps[name].double().mean((1, 2)))
                local[name, quality].append(cosine_distance(unharmed[name], maps[name], 0).mean())
    rows = []
    for quality in qualities:
        for name in ENCODERS:
            original, compressed = torch.stack(means[name, None]), torch.stack(means[name, quality])
            centre = torch.cat([original, compressed]).mean(0)
            values = {
                "global": cosine_distance(original, compressed, 1).mean(),
                "local": torch.stack(local[name, quality]).mean(),
                "centred": cosine_distance(original - centre, compressed - centre, 1).mean(),
                "others": _between(original),
                "others_centred": _between(original - centre),
            }
            row = {"dataset": dataset.name, "model": str(model), "qf": quality, "features": name}
            row |= {key: None if value is None else round(float(value), 5) for key, value in values.items()}
            rows.append({**row, "n_images": len(dataset.paths)})
    return rows


def _between(vectors: Tensor) -> Tensor | None:
    """Mean cosine distance of all pairs of different rows; None if there is only one."""
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return cosine_distance(vectors[first], vectors[second], 1).mean() if len(vectors) > 1 else None


def markdown(rows: list[dict]) -> str:
    """The rows as a table."""
    head = ["data", "model", "QF", "features", *(name.replace("_", ", ") for name in MEASURES), "images"]
    table = [
        [row["dataset"], row["model"], str(row["qf"]), row["features"]]
        + ["" if row[name] is None else f"{row[name]:.4f}" for name in MEASURES]
        + [str(row["n_images"])]
        for row in rows
    ]
    return "\n".join(aligned([head, *table], numbers_from=4))


def draw(restorer: Restorer, source: Source, quality: int, target: Path) -> None:
    """Draw an image and its JPEG at ``quality`` through both encoders: the features' channel mean, and where they differ.

    Rows: the file, its compressed version, their distance; columns: pixels, E_ci, E_cs. One colour scale per encoder, and
    one for both maps of cosine distances per position. The titles of the last row give the distance's mean.

    ``source`` is an image as ``restorer.open`` gives it.
    """
    name, known, image = Path(source.name).name, source.quality, as_array(source.rgb)
    compressed = codec.compress(image, codec.check_quality(quality))
    before, after = feature_maps(restorer, image), feature_maps(restorer, compressed)
    rows, columns = (-(-side // DAGN.stride) * DAGN.stride for side in image.shape[:2])  # the encoders see the padded image
    figure = Figure(figsize=(9, 9 * rows / columns + 0.6), layout="constrained")
    axes = figure.subplots(3, 3)
    axes[0, 0].imshow(image)
    axes[0, 0].set_title(f"{name}, JPEG of QF {known.value}" if known else name)
    axes[1, 0].imshow(compressed)
    axes[1, 0].set_title(f"compressed at QF {quality}")
    difference = np.abs(image.astype(int) - compressed).mean(2)
    axes[2, 0].imshow(difference, cmap="magma")
    axes[2, 0].set_title(f"pixels differ by {difference.mean():.1f}")
    distances = {name: cosine_distance(before[name], after[name], 0).numpy() for name in ENCODERS}
    largest = max(distance.max() for distance in distances.values())
    for column, name in enumerate(ENCODERS, start=1):
        pair = [maps[name].mean(0).numpy() for maps in (before, after)]
        low, high = np.min(pair), np.max(pair)
        for row, values in enumerate(pair):
            axes[row, column].imshow(values, cmap="viridis", vmin=low, vmax=high, extent=(0, columns, rows, 0))
            axes[row, column].set_title(f"{name} features")
        axes[2, column].imshow(distances[name], cmap="magma", vmin=0, vmax=largest, extent=(0, columns, rows, 0))
        axes[2, column].set_title(f"cosine distance {distances[name].mean():.3f}")
    for axis in axes.flat:
        axis.set_axis_off()
        axis.title.set_fontsize(9)
    with atomic_path(target) as path:
        figure.savefig(path, dpi=100)
