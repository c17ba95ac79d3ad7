"""Entrants without weights: nothing at all, libjpeg's own smoothing, FFmpeg's deblocking filter."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dagn_pre.errors import DagnPreError, ImageError
from dagn_pre.protocol import ImageInformation, RestorationModel


class Identity(RestorationModel):
    """Gives every image back."""

    stride = 1
    receptive_radius = 0

    def restore(self, x: Tensor, guidance: None) -> Tensor:
        return x


class Deblock(RestorationModel):
    """FFmpeg's ``deblock`` filter with its default thresholds, on R, G and B; it evens out steps at borders of 8x8 blocks.

    Args:
        strength: "weak" changes one pixel on each side of a border, "strong" up to three.
    """

    autocast = False
    receptive_radius = 16

    def __init__(self, strength: str = "strong") -> None:
        super().__init__()
        try:
            import av
        except ImportError as error:
            raise DagnPreError(f'deblock needs the peers extra ({error}): pip install "dagn-pre[peers]"') from error
        self.av, self.strength = av, strength

    def restore(self, x: Tensor, guidance: None) -> Tensor:
        pixels = x.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        filtered = np.stack([self.filtered(np.ascontiguousarray(image)) for image in pixels])
        return torch.from_numpy(filtered).to(x.device).permute(0, 3, 1, 2) / 255

    def filtered(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> the same."""
        graph = self.av.filter.Graph()
        frame = self.av.VideoFrame.from_ndarray(rgb, "rgb24")
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))
        planar = graph.add("format", "gbrp")  # the filter takes planes; the change of order loses nothing
        deblock = graph.add("deblock", f"filter={self.strength}:block=8")
        packed = graph.add("format", "rgb24")
        sink = graph.add("buffersink")
        for one, other in zip((source, planar, deblock, packed), (planar, deblock, packed, sink)):
            one.link_to(other)
        graph.configure()
        source.push(frame)
        return graph.vpull().to_ndarray()


class LibJPEG(RestorationModel):
    """Decodes the file again with libjpeg's own smoothing on or off.

    Fancy upsampling interpolates halved chroma, which Pillow, OpenCV and every viewer do. Block smoothing estimates
    coefficients that have not arrived yet, so it acts on progressive files that were cut short and on no others.
    """

    stride = 1
    receptive_radius = 0
    needs = "file"
    tiles = False
    autocast = False

    def __init__(self, fancy_upsampling: bool = True, block_smoothing: bool = True) -> None:
        super().__init__()
        try:
            import jpeglib
        except ImportError as error:
            raise DagnPreError(f'libjpeg needs the peers extra ({error}): pip install "dagn-pre[peers]"') from error
        self.jpeglib = jpeglib
        switches = {"DO_FANCY_UPSAMPLING": fancy_upsampling, "DO_BLOCK_SMOOTHING": block_smoothing}
        self.flags = [f"{'+' if on else '-'}{name}" for name, on in switches.items()]

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> Tensor:
        """The files decoded, padded to the size of ``x``."""
        decoded = [torch.from_numpy(self.decode(one)).to(x.device).permute(2, 0, 1)[None] / 255 for one in information]
        return torch.cat([self.pad(image) for image in decoded])

    def restore(self, x: Tensor, guidance: Tensor) -> Tensor:
        return guidance

    def decode(self, information: ImageInformation) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Raises:
            ImageError: CMYK, or no file.
        """
        if information.data is None:
            raise ImageError(f"{information.name}: libjpeg decodes a file, and there is none")
        with tempfile.TemporaryDirectory() as folder:  # jpeglib reads files alone
            path = Path(folder) / "image.jpg"
            path.write_bytes(information.data)
            pixels = self.jpeglib.read_spatial(str(path), flags=self.flags).spatial
        if pixels.shape[2] not in (1, 3):
            found = f"not {pixels.shape[2]} channels"
            raise ImageError(f"{information.name}: libjpeg entrants decode gray and YCbCr files, {found}")
        return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels
