"""OpenCV's bilinear resize of uint8 images, in torch: the same pixels on any device as ``cv2.resize`` gives on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHT_BITS = 11  # OpenCV weighs uint8 pixels in integers


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resize as ``cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)`` does.

    Args:
        image: (C, H, W) uint8, any channel order, on any device.
        height, width: the new size in pixels.

    Returns:
        (C, height, width) uint8 on the same device; ``image`` itself where it has that size already.

    OpenCV interpolates in integers, rows first, without antialiasing; halving both sides exactly, it takes the mean of
    2x2 pixels. Integers round the same on every device.
    """
    old_height, old_width = image.shape[-2:]
    if (old_height, old_width) == (height, width):
        return image
    if (old_height, old_width) == (2 * height, 2 * width):
        pixels = image.to(torch.int32)
        four = pixels[:, ::2, ::2] + pixels[:, ::2, 1::2] + pixels[:, 1::2, ::2] + pixels[:, 1::2, 1::2]
        return ((four + 2) >> 2).to(torch.uint8).contiguous()
    columns = image.permute(2, 1, 0).to(torch.int32).contiguous()  # whole lines are gathered: the fast way on CPUs
    left, right, near, far = taps(old_width, width, image.device, hold_border=True)
    lines = columns[left].mul_(near).add_(columns[right].mul_(far))
    lines = lines.transpose(0, 1).contiguous()
    top, bottom, near, far = taps(old_height, height, image.device, hold_border=False)
    lines >>= 4  # OpenCV shifts here, per product and at the end, and each shift drops bits
    mixed = (lines[top].mul_(near) >> 16).add_(lines[bottom].mul_(far) >> 16)
    return ((mixed + 2) >> 2).clamp_(0, 255).to(torch.uint8).permute(2, 0, 1).contiguous()


def taps(old: int, new: int, device: torch.device, hold_border: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of ``new`` pixels of a line, which two of its ``old`` pixels are mixed, and their weights in 1/2048.

    Indices are (new,), weights (new, 1, 1) int32. Beyond the border both are the border's pixel; ``hold_border`` gives it
    all the weight at once, as OpenCV does along rows but not along columns, where it rounds two parts.
    """
    scale = 1 / (new / old)  # in double precision, as OpenCV
    place = ((torch.arange(new, dtype=torch.float64) + 0.5) * scale - 0.5).float()
    first = place.floor()
    far = place - first
    first = first.long()
    if hold_border:
        far[(first < 0) | (first >= old - 1)] = 0
    near, far = ((weight * (1 << WEIGHT_BITS)).round().to(torch.int32)[:, None, None] for weight in (1 - far, far))
    first, second = (index.clamp(0, old - 1) for index in (first, first + 1))
    return first.to(device), second.to(device), near.to(device), far.to(device)
