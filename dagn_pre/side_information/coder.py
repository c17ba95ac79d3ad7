"""Symbols to bytes and back: the context model in integers, and a range coder under it.

A decoder has to find exactly the probabilities that the encoder used, on any machine. So nothing here is a float that
depends on the order of a sum: weights become integers, sums are of int64, and a table of powers of two stands in for exp.
``docs/side-information.md`` specifies all of it, byte by byte; the range coder is that of the library ``constriction``.

Symbols are coded in the order of ``column + 3 * row``: those with the same number do not see each other, so that both sides
compute their probabilities at once.
"""

from __future__ import annotations

import functools

import constriction
import numpy as np
from torch import Tensor, nn

from dagn_pre.errors import DagnPreError
from dagn_pre.networks.side_information import SYMBOLS, ContextModel

FRACTION = 12  # bits after the point of weights and activations
ACTIVATION_LIMIT = (1 << 24) - 1  # with WEIGHT_LIMIT no sum leaves 64 bits
WEIGHT_LIMIT = (1 << 19) - 1
LOGIT_LIMIT = 1 << 20
TOTAL = 1 << 16  # frequencies of the 16 symbols sum to this
PER_LN2 = 1.4426950408889634  # 1 / ln 2; written out, since a library's logarithm may differ in its last bit
OUTSIDE = SYMBOLS  # stands for a neighbour outside the image
# (row, column) of the twelve neighbours, in the order of the masked convolution's weights
NEIGHBOURS = [(row, column) for row in (-2, -1, 0) for column in range(-2, 3) if (row, column) < (0, 0)]
# round(2^(16 - i / 256)); no value lies within 1e-3 of a half, so that any correctly working pow gives these
POWERS = np.array([round(2 ** (16 - i / 256)) for i in range(256)], dtype=np.int64)


class SymbolError(DagnPreError):
    """Bytes that are no symbols of this model and size."""


def _array(parameter: Tensor | nn.Module | None) -> np.ndarray:
    assert isinstance(parameter, Tensor)  # the context model's layers all have a weight and a bias
    return parameter.detach().float().numpy()


def _fixed(values: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Floats to integers of FRACTION bits after the point, halves to even."""
    rounded = np.rint(values.astype(np.float64) * (factor * (1 << FRACTION)))
    return np.clip(rounded, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int64)


class SymbolModel:
    """A :class:`ContextModel` in integers: neighbours -> frequencies of the 16 symbols."""

    def __init__(self, context: ContextModel) -> None:
        weight = _array(context.causal.weight)
        width = weight.shape[0]
        taps = weight.reshape(width, SYMBOLS, -1)[..., : len(NEIGHBOURS)]
        self.taps = np.zeros((len(NEIGHBOURS), SYMBOLS + 1, width), np.int64)
        self.taps[:, :SYMBOLS] = _fixed(taps).transpose(2, 1, 0)  # OUTSIDE stays zero
        self.bias = _fixed(_array(context.causal.bias))
        self.layers = []
        for index, layer in enumerate(context.pointwise):
            factor = PER_LN2 if index == len(context.pointwise) - 1 else 1.0  # the last one's logits to base 2
            matrix = _fixed(_array(layer.weight)[..., 0, 0], factor)
            self.layers.append((matrix.T.copy(), _fixed(_array(layer.bias), factor)))

    def frequencies(self, neighbours: np.ndarray) -> np.ndarray:
        """(n, 12) integers of 0..15, or OUTSIDE -> (n, 16) int64, at least 1 each, rows that sum to TOTAL."""
        x = self.bias + sum(self.taps[k, neighbours[:, k]] for k in range(len(NEIGHBOURS)))
        for matrix, bias in self.layers:
            x = np.clip(x, 0, ACTIVATION_LIMIT)
            x = ((x @ matrix) >> FRACTION) + bias
        x = np.clip(x, -LOGIT_LIMIT, LOGIT_LIMIT)
        below = (x.max(1, keepdims=True) - x) >> (FRACTION - 8)  # in 256ths of a bit
        likely = POWERS[below & 255] >> np.minimum(below >> 8, 62)
        frequencies = 1 + likely * (TOTAL - SYMBOLS) // likely.sum(1, keepdims=True)
        rest = TOTAL - frequencies.sum(1)
        frequencies[np.arange(len(x)), likely.argmax(1)] += rest
        return frequencies


@functools.lru_cache(maxsize=8)
def _order(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of all symbols in coding order, and where each group of them starts (with the end)."""
    row, column = (axis.ravel() for axis in np.indices((rows, columns)))
    number = column + 3 * row
    order = np.lexsort((row, number))
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    return row[order], column[order], np.append(starts, len(order))


def _neighbours(padded: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(n, 12) neighbours of n positions in a grid padded by two rows above and two columns on both sides."""
    return np.stack([padded[row + 2 + dy, column + 2 + dx] for dy, dx in NEIGHBOURS], 1)


def _padded(rows: int, columns: int) -> np.ndarray:
    return np.full((rows + 2, columns + 4), OUTSIDE, np.int64)


def _coded(model: SymbolModel, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symbols in coding order, int32, and their frequencies, (n, 16) int64."""
    rows, columns = symbols.shape
    padded = _padded(rows, columns)
    padded[2:, 2:-2] = symbols
    row, column, _ = _order(rows, columns)
    return symbols[row, column].astype(np.int32), model.frequencies(_neighbours(padded, row, column))


def estimate(model: SymbolModel, symbols: np.ndarray) -> float:
    """The bits that :func:`encode` should need for (rows, columns) symbols of 0..15: -log2 of their probabilities, summed."""
    chosen, frequencies = _coded(model, symbols)
    return float(-np.log2(frequencies[np.arange(len(chosen)), chosen] / TOTAL).sum())


def _family() -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(perfect=False)


def encode(model: SymbolModel, symbols: np.ndarray) -> bytes:
    """(rows, columns) integers of 0..15 -> bytes; trailing zero bytes are left out."""
    chosen, frequencies = _coded(model, symbols)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(chosen, _family(), frequencies / TOTAL)  # exact: TOTAL is a power of two
    return encoder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


def decode(model: SymbolModel, data: bytes, rows: int, columns: int) -> np.ndarray:
    """Inverse of :func:`encode`: (rows, columns) uint8.

    Raises:
        SymbolError: bytes that lead out of the coder's range; most that :func:`encode` never gives decode to other symbols.
    """
    words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
    padded = _padded(rows, columns)
    row, column, starts = _order(rows, columns)
    decoder, family = constriction.stream.queue.RangeDecoder(words), _family()
    for start, stop in zip(starts, starts[1:]):
        here = row[start:stop], column[start:stop]
        frequencies = model.frequencies(_neighbours(padded, *here))
        try:
            padded[here[0] + 2, here[1] + 2] = decoder.decode(family, frequencies / TOTAL)
        except AssertionError as error:  # what constriction raises for data that no encoder wrote
            raise SymbolError(f"the coded symbols are damaged ({error})") from error
    return padded[2:, 2:-2].astype(np.uint8)
