"""The torchvision transform does what Restorer does, to images only."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from dagn_pre import Restorer, codec, images
from dagn_pre.errors import ImageError, UsageError
from dagn_pre.integrations.torchvision import DAGNRestore
from tests.support import odd_files


def picture(quality: int = 10) -> np.ndarray:
    """A (40, 56, 3) uint8 RGB picture with edges, as JPEG of that quality leaves it."""
    y, x = np.mgrid[:40, :56]
    image = np.stack([x * 4, y * 6, 127 + 120 * np.sin(x / 3 + y / 5)], axis=-1).clip(0, 255).astype(np.uint8)
    image[10:25, 20:40] = (200, 30, 60)
    return codec.compress(image, quality)


def chw(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array).permute(2, 0, 1).contiguous()


@pytest.fixture(scope="module")
def expected(weights) -> np.ndarray:
    """What Restorer itself makes of picture(); it differs, so that "unchanged" below means something."""
    restored = Restorer(weights, device="cpu")(picture())
    assert not np.array_equal(restored, picture())
    return restored


@pytest.fixture
def transform(weights) -> DAGNRestore:
    return DAGNRestore(weights)


def test_pil_image_equals_restorer(transform, expected):
    restored = transform(Image.fromarray(picture()))
    assert isinstance(restored, Image.Image) and restored.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(restored), expected)


def test_an_assumed_quality_is_the_restorers():
    assumed = DAGNRestore(assume_quality=30)(Image.fromarray(picture(95)))
    np.testing.assert_array_equal(np.asarray(assumed), Restorer(device="cpu", assume_quality=30)(picture(95)))
    assert not np.array_equal(np.asarray(assumed), picture(95))


def test_tv_image_and_plain_tensor_keep_their_type(transform, expected):
    for tensor in (chw(picture()), tv_tensors.Image(chw(picture()))):
        restored = transform(tensor)
        assert type(restored) is type(tensor) and restored.dtype == torch.uint8
        assert torch.equal(torch.as_tensor(restored), chw(expected))


def test_batch_keeps_its_leading_dimensions(transform, expected):
    batch = torch.stack([chw(picture())] * 2)[None]
    restored = transform(batch)
    assert restored.shape == batch.shape
    for image in restored[0]:  # a batched convolution may round differently from a single one
        assert (image.int() - chw(expected).int()).abs().max() <= 1


def test_other_leaves_pass_untouched(transform, expected):
    sample = {
        "image": tv_tensors.Image(chw(picture())),
        "boxes": tv_tensors.BoundingBoxes([[1, 2, 30, 20]], format="XYXY", canvas_size=(40, 56)),
        "mask": tv_tensors.Mask(torch.arange(40 * 56, dtype=torch.uint8).reshape(1, 40, 56)),
        "labels": torch.tensor([3]),
        "path": "a.jpg",
    }
    restored = transform(sample)
    assert torch.equal(torch.as_tensor(restored["image"]), chw(expected))
    assert all(restored[key] is sample[key] for key in ("boxes", "mask", "labels", "path"))


def test_good_quality_passes_untouched(weights):
    """A header's QF at or above max_quality: the same object comes out, though the pixels could be restored."""
    file = io.BytesIO(codec.encode(picture(), 95))
    image = Image.open(file)
    assert DAGNRestore(weights)(image) is image
    restored = DAGNRestore(weights, max_quality=96)(image)
    assert not np.array_equal(np.asarray(restored), np.asarray(image))


def test_zero_strength_returns_the_input(weights):
    tensor = chw(picture())
    assert DAGNRestore(weights, strength=0.0)(tensor) is tensor


def test_in_a_pipeline(transform):
    pipeline = v2.Compose([transform, v2.Resize((20, 28), antialias=True), v2.RandomHorizontalFlip(1.0)])
    assert pipeline(tv_tensors.Image(chw(picture()))).shape == (3, 20, 28)


@pytest.mark.parametrize(
    "tensor",
    [torch.rand(3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, dtype=torch.uint8)],
    ids=["float", "one channel", "two dimensions"],
)
def test_refuses_what_is_not_an_8_bit_rgb_image(transform, tensor):
    with pytest.raises(ImageError, match=r"\(\.\.\., 3, H, W\) uint8"):
        transform(tensor)


def test_refuses_an_image_without_pixels(transform):
    with pytest.raises(ImageError):
        transform(torch.zeros(3, 0, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    "option", [{"model": "nonesuch"}, {"max_quality": 0}, {"strength": 2}, {"tile": 7}, {"dtype": "int8"}]
)
def test_refuses_bad_options_when_built(option):
    with pytest.raises(UsageError):
        DAGNRestore(**option)


def test_pickle_is_small_also_after_use(transform, expected):
    transform(chw(picture()))
    data = pickle.dumps(transform)
    assert len(data) < 10_000
    assert torch.equal(pickle.loads(data)(chw(picture())), chw(expected))


def test_repr_names_the_options():
    assert "model='dagn-xs'" in repr(DAGNRestore()) and "strength=0.5" in repr(DAGNRestore(strength=0.5))


class Pictures(Dataset):
    """Two pictures behind a transform; also what the worker's thread count is."""

    def __init__(self, transform: v2.Transform) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(chw(picture())), torch.get_num_threads()


def test_in_dataloader_workers(transform, expected):
    for restored, threads in DataLoader(Pictures(transform), batch_size=None, num_workers=1):
        assert torch.equal(restored, chw(expected))
        assert threads == 1


def test_cuda_in_a_forked_worker_names_the_remedy():
    pictures = Pictures(DAGNRestore(device="cuda"))
    loader = DataLoader(pictures, batch_size=None, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(UsageError, match="spawn"):
        next(iter(loader))


def test_what_was_restored_before_is_left_alone_unless_told_otherwise(weights, tmp_path):
    images.save(Image.fromarray(picture()), tmp_path / "a.png", mark=True)
    opened = Image.open(tmp_path / "a.png")
    assert DAGNRestore(weights, max_quality=None)(opened) is opened
    assert (np.asarray(DAGNRestore(weights, max_quality=None, again=True)(opened)) != picture()).any()


def test_gray_stays_gray(weights):
    tensor = chw(odd_files.grey_levels())
    restored = DAGNRestore(weights, max_quality=None)(tensor)
    assert (restored[:1] == restored).all() and not torch.equal(restored, tensor)


@pytest.mark.parametrize("name", odd_files.damaged())
def test_a_damaged_file_is_an_image_error(transform, tmp_path, name):
    (tmp_path / name).write_bytes(odd_files.damaged()[name])
    try:
        opened = Image.open(tmp_path / name)
    except Exception:
        return  # so it does not reach the transform
    with pytest.raises(ImageError, match=name):
        transform(opened)
