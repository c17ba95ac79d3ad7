"""Render the demo's data set: textured objects over photographs, with COCO boxes and VOC-style masks of the images.

Four classes are discs and two are tiles that only their fine texture tells apart; a star and a ring are told by their
shape. Colour, size, light and the strength of the texture are drawn alike for all classes. Everything follows from the
seed: same seed, same bytes (with the same versions of numpy, Pillow and scikit-image).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from PIL import Image

from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.progress import bar

CLASSES = ("linen", "corduroy", "ribbed", "felt", "twill", "plain", "star", "ring")
SHAPES = ("disc", "disc", "disc", "disc", "tile", "tile", "star", "ring")
PALETTE = ((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240),
           (240, 50, 230))  # fmt: skip
PHOTOGRAPHS = {  # files of the installed scikit-image, all public domain or CC0
    "train": ("astronaut.png", "camera.png", "coffee.png", "brick.png", "gravel.png", "coins.png"),
    "val": ("chelsea.png", "rocket.jpg", "grass.png"),
}
COUNTS = {"train": 480, "val": 72}
WIDTH, HEIGHT = 256, 192
MARKER = "complete.json"  # written last; also says what the folder holds


def radius(shape: str, angle: np.ndarray) -> np.ndarray:
    """Outline of a shape as a polar function, largest value 1; angle in radians."""
    if shape == "tile":  # a superellipse, scaled by its largest radius
        power = 6.0
        ends = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
        return ends / 2 ** (0.5 - 1 / power)
    if shape == "star":  # straight from tip to notch, five times around
        return 1 - 0.5 * np.abs((angle * 5 / (2 * np.pi)) % 1 * 2 - 1)
    return np.ones_like(angle)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], low: float, high: float) -> np.ndarray:
    """Isotropic noise of unit standard deviation with wavelengths from low to high pixels, (H, W) float64."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    band = (frequency >= 1 / high) & (frequency <= 1 / low)
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * band, s=shape)
    return noise / noise.std()


def texture(rng: np.random.Generator, name: str, shape: tuple[int, int]) -> np.ndarray:
    """A fine texture of unit standard deviation, wavelength 3.5 to 6 pixels, (H, W) float64; zeros for "plain"."""
    if name == "plain":
        return np.zeros(shape)
    wavelength = rng.uniform(3.5, 6.0)
    if name == "felt":
        return smooth_noise(rng, shape, wavelength * 0.8, wavelength * 1.25)
    tilt = {"linen": 0.0, "corduroy": 0.0, "ribbed": np.pi / 2, "twill": np.pi / 4}[name] + rng.uniform(-0.2, 0.2)
    if name == "twill" and rng.random() < 0.5:  # both diagonals, so a mirrored image keeps its label
        tilt = -tilt
    y, x = np.mgrid[: shape[0], : shape[1]] * (2 * np.pi / wavelength)
    along, across = np.cos(tilt) * x + np.sin(tilt) * y, np.cos(tilt) * y - np.sin(tilt) * x
    first, second = rng.uniform(0, 2 * np.pi, 2)
    if name == "linen":
        return 2 * np.sin(along + first) * np.sin(across + second)
    return np.sqrt(2) * np.sin(along + first)


def background(rng: np.random.Generator, photograph: Image.Image) -> np.ndarray:
    """A piece of the photograph, mirrored half of the time, its light and contrast varied: (HEIGHT, WIDTH, 3) float."""
    scale = rng.uniform(1.0, min(1.6, photograph.width / WIDTH, photograph.height / HEIGHT))
    width, height = int(WIDTH * scale), int(HEIGHT * scale)
    left, top = rng.integers(photograph.width - width + 1), rng.integers(photograph.height - height + 1)
    box = (int(left), int(top), int(left) + width, int(top) + height)
    piece = np.asarray(photograph.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box), dtype=np.float64)
    piece = piece[:, ::-1] if rng.random() < 0.5 else piece
    return (piece - 128) * rng.uniform(0.7, 1.1) + 128 + rng.uniform(-25, 25) + rng.uniform(-12, 12, 3)


def place(rng: np.random.Generator, taken: list[tuple[float, float, float]]) -> tuple[float, float, float] | None:
    """Centre and radius (x, y, r) of one more object that at most touches those taken; None if no place was found."""
    r = np.exp(rng.uniform(np.log(16), np.log(44)))
    for _ in range(20):
        x, y = rng.uniform(r, WIDTH - r), rng.uniform(r, HEIGHT - r)
        if all(np.hypot(x - x2, y - y2) > 0.95 * (r + r2) for x2, y2, r2 in taken):
            return x, y, r
    return None


def draw(rng: np.random.Generator, canvas: np.ndarray, label: int, x: float, y: float, r: float) -> np.ndarray:
    """Composite one object onto the canvas, in place, with a soft shadow; returns its mask, (HEIGHT, WIDTH) bool."""
    shape, name = SHAPES[label], CLASSES[label]
    if shape in ("star", "ring"):  # these wear any texture
        name = CLASSES[rng.integers(6)]
    turn = rng.uniform(-0.25, 0.25) if shape == "tile" else rng.uniform(0, 2 * np.pi)
    aspect = np.exp(rng.uniform(-0.15, 0.15))
    light = rng.uniform(0, 2 * np.pi)
    reach = r + 6  # with the shadow
    window = slice(max(0, int(y - reach)), int(y + reach) + 1), slice(max(0, int(x - reach)), int(x + reach) + 1)
    view = canvas[window]
    right, down = np.arange(WIDTH)[window[1]] - x, np.arange(HEIGHT)[window[0], None] - y

    def coverage(dx: float, dy: float, softness: float) -> np.ndarray:
        u, v = (right - dx) * max(1.0, 1 / aspect), (down - dy) * max(1.0, aspect)
        edge, distance = r * radius(shape, np.arctan2(v, u) + turn), np.hypot(u, v)
        inside = np.clip((edge - distance) / softness + 0.5, 0, 1)
        return inside * np.clip((distance - 0.5 * r) / softness + 0.5, 0, 1) if shape == "ring" else inside

    view *= 1 - 0.4 * coverage(-2.5 * np.cos(light), -2.5 * np.sin(light), 5.0)[..., None]

    gray, tint = rng.uniform(70, 190), rng.uniform(-45, 45, 3)
    shading = 1 + 0.2 * (right * np.cos(light) + down * np.sin(light)) / r
    seen = view.shape[0], view.shape[1]
    shading += 0.04 * smooth_noise(rng, seen, 16, 64)
    strength = np.exp(rng.uniform(np.log(5), np.log(20)))  # standard deviation in gray levels
    surface = (gray + tint - tint.mean()) * shading[..., None]
    surface += strength * texture(rng, name, seen)[..., None]
    cover = coverage(0, 0, 1.0)
    view += (surface - view) * cover[..., None]
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[window] = cover >= 0.5
    return mask


def render(rng: np.random.Generator, photograph: Image.Image) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """One image, (HEIGHT, WIDTH, 3) uint8 RGB, and its objects: (class index, (HEIGHT, WIDTH) bool of what is seen)."""
    canvas = background(rng, photograph)
    owner = np.full((HEIGHT, WIDTH), -1)
    labels: list[int] = []
    taken: list = []
    for _ in range(rng.integers(3, 8)):
        spot = place(rng, taken)
        if spot is not None:
            label = int(rng.integers(len(CLASSES)))
            owner[draw(rng, canvas, label, *spot)] = len(labels)
            taken.append(spot)
            labels.append(label)
    canvas += rng.normal(0, 1.5, canvas.shape)  # a camera's noise, over objects and background alike
    image = np.rint(np.clip(canvas, 0, 255)).astype(np.uint8)
    return image, [(label, owner == i) for i, label in enumerate(labels)]


def annotation(label: int, mask: np.ndarray) -> dict:
    """A COCO annotation without ids: box and area of the mask's pixels, and the mask as an uncompressed RLE."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    counts = counts[:-1] if counts[-1] == 0 else counts
    rle = {"size": list(mask.shape), "counts": counts.tolist()}
    return {"category_id": label + 1, "bbox": box, "area": int(mask.sum()), "iscrowd": 0, "segmentation": rle}


def write_split(root: Path, split: str, count: int, seed: int) -> None:
    """Write ``count`` images of a split with its masks, its list of names and its COCO file below ``root``."""
    images: list[dict] = []
    annotations: list[dict] = []
    photographs = []
    for name in PHOTOGRAPHS[split]:
        with as_file(files("skimage.data") / name) as path, Image.open(path) as photograph:
            photographs.append(photograph.convert("RGB"))
    for index in bar(range(count), desc=f"rendering {split}", unit="image"):
        # One stream per image, so an image does not depend on how many there are.
        rng = np.random.default_rng([seed, list(PHOTOGRAPHS).index(split), index])
        image, objects = render(rng, photographs[index % len(photographs)])
        name = f"{split}_{index:04d}"
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for label, seen in objects:
            mask[seen] = label + 1
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **annotation(label, seen)})
        picture = Image.fromarray(mask)
        picture.putpalette(np.array([(0, 0, 0), *PALETTE], np.uint8).tobytes())
        picture.save(root / "SegmentationClass" / f"{name}.png")
        Image.fromarray(image).save(root / "images" / f"{name}.png", compress_level=1)
        images.append({"id": index + 1, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT})
    names = "".join(f"{Path(image['file_name']).stem}\n" for image in images)
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(names)
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))


def prepare(root: str | Path, seed: int = 0, counts: dict[str, int] | None = None) -> None:
    """Render the data set into the folder ``root``, whole or not at all; return at once where it is already complete.

    ``root`` then holds ``images/*.png`` (lossless RGB), ``annotations/{train,val}.json`` (COCO),
    ``SegmentationClass/*.png`` (palette; 0 is the background, class i of CLASSES is i + 1),
    ``ImageSets/Segmentation/{train,val}.txt`` and a marker. A data set rendered with another seed, other counts or
    other versions is replaced.

    Args:
        root: the folder, made if missing.
        seed: an integer >= 0.
        counts: images per split, ``COUNTS`` if None.

    Raises:
        UsageError: ``root`` holds files that are no rendered data set.
        DagnPreError: scikit-image, whose photographs are used, is not installed.
    """
    root, counts = Path(root), counts or COUNTS
    try:
        packages = {name: version(name) for name in ("numpy", "pillow", "scikit-image")}
    except PackageNotFoundError as error:
        raise DagnPreError(f'the demo needs {error.name}: pip install "dagn-pre[benchmarks]"') from error
    marker = json.dumps({"seed": seed, "counts": counts, "classes": CLASSES, "versions": packages}, indent=2)
    written = root / MARKER
    if written.exists() and written.read_text() == marker:
        return
    if root.exists() and not written.exists() and any(root.iterdir()):
        raise UsageError(f"{root} holds files that are not the demo's data; name an empty folder or remove it")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        fresh = Path(scratch) / "data"
        for folder in ("images", "annotations", "SegmentationClass", "ImageSets/Segmentation"):
            (fresh / folder).mkdir(parents=True)
        for split, count in counts.items():
            write_split(fresh, split, count, seed)
        (fresh / MARKER).write_text(marker)
        if root.exists():
            shutil.rmtree(root)
        fresh.replace(root)
