"""The symbols' coder against its specification, docs/side-information.md."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dagn_pre.networks.side_information import ContextModel, one_hot
from dagn_pre.side_information import coder


@pytest.fixture(scope="module")
def context() -> ContextModel:
    torch.manual_seed(1)
    model = ContextModel(12)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def model(context) -> coder.SymbolModel:
    return coder.SymbolModel(context)


def likely_symbols(model: coder.SymbolModel, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Symbols drawn from the model itself, by decoding noise."""
    noise = np.random.default_rng(seed).bytes(rows * columns + 16)
    return coder.decode(model, noise, rows, columns)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 17), (32, 48)])
def test_round_trip(model, size):
    for symbols in (likely_symbols(model, *size), np.random.default_rng(0).integers(0, 16, size)):
        data = coder.encode(model, symbols)
        assert (coder.decode(model, data, *size) == symbols).all()
        assert not data.endswith(b"\0")


def test_integers_agree_with_the_network_that_trained(model, context):
    """Bits by the float network, by the integers, and real bytes: within 3 %, for as many symbols as a photograph has."""
    symbols = likely_symbols(model, 32, 48)
    trained = context.bits(one_hot(torch.from_numpy(symbols)[None])).sum().item()
    estimated, real = coder.estimate(model, symbols), 8 * len(coder.encode(model, symbols))
    assert estimated == pytest.approx(trained, rel=2e-3)
    assert real == pytest.approx(estimated, rel=0.03) and real >= estimated


def test_frequencies_are_a_distribution_whatever_the_weights(model):
    rng = np.random.default_rng(0)
    wild = ContextModel(12)
    with torch.no_grad():
        for parameter in wild.parameters():
            parameter.mul_(1e6)
    for one in (model, coder.SymbolModel(wild)):
        frequencies = one.frequencies(rng.integers(0, 17, (500, 12)))
        assert (frequencies >= 1).all() and (frequencies.sum(1) == coder.TOTAL).all()


def test_each_symbol_depends_on_those_before_it_alone(model):
    """In coding order, which is by column + 3 * row: what makes decoding possible."""
    rows, columns = 5, 7
    symbols = likely_symbols(model, rows, columns)
    order = sorted(np.ndindex(rows, columns), key=lambda place: (place[1] + 3 * place[0], place[0]))
    before = coder._coded(model, symbols)[1]
    for index, (row, column) in enumerate(order):
        changed = symbols.copy()
        changed[row, column] ^= 5
        assert (coder._coded(model, changed)[1][: index + 1] == before[: index + 1]).all()


def test_powers_of_two_are_the_same_on_any_machine():
    exact = 2 ** (16 - np.arange(256) / 256)
    assert (np.abs(exact - np.floor(exact) - 0.5) > 1e-3).all()  # far from where rounding could go either way
    assert coder.POWERS[0] == 65536 and coder.POWERS[128] == 46341 and coder.POWERS[255] == 32857


def specified_range_decoder(data: bytes, tables: list[list[int]]) -> list[int]:
    """The range coder as docs/side-information.md writes it down, in plain integers."""
    data += bytes(-len(data) % 4)
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    following = iter(words)
    lower, width, symbols = 0, 2**64 - 1, []
    point = (next(following, 0) << 32) | next(following, 0)
    for table in tables:
        edges = [i + sum(table[:i]) * (2**24 - 16) // 2**16 for i in range(16)] + [2**24]
        unit = width >> 24
        target = ((point - lower) % 2**64) // unit
        symbol = max(i for i in range(16) if edges[i] <= target)
        lower = (lower + unit * edges[symbol]) % 2**64
        width = unit * (edges[symbol + 1] - edges[symbol])
        if width < 2**32:
            width <<= 32
            lower = (lower << 32) % 2**64
            point = ((point << 32) | next(following, 0)) % 2**64
        symbols.append(symbol)
    return symbols


def test_the_range_coder_is_the_specified_one(model):
    symbols = likely_symbols(model, 12, 20)
    chosen, frequencies = coder._coded(model, symbols)
    assert specified_range_decoder(coder.encode(model, symbols), frequencies.tolist()) == chosen.tolist()


def test_bytes_that_no_encoder_writes_are_refused_or_decoded_to_symbols(model):
    rng = np.random.default_rng(0)
    for data in (b"", b"\0", b"\xff" * 12, b"\xff" * 400, rng.bytes(3), rng.bytes(1000)):
        try:
            symbols = coder.decode(model, data, 6, 6)
        except coder.SymbolError as error:
            assert "damaged" in str(error)
        else:
            assert symbols.shape == (6, 6) and symbols.max() < 16
