from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import codec
from dagn_pre.errors import UsageError
from dagn_pre.training.data import (
    JPEGPairs,
    StepBatches,
    ValidationPairs,
    load_photographs,
    loader,
    patch_schedule,
    quality_recipe,
    restoration_quality,
    uniform_quality,
)
from tests.support import photograph

PHOTOGRAPHS = [photograph(64, 80, seed) for seed in range(3)]


def test_a_pair_depends_on_seed_and_index_alone():
    first, second = (JPEGPairs(PHOTOGRAPHS, 32, 10, seed=s) for s in (0, 0))
    for index in (3, 0, 7):
        for a, b in zip(first[index][:2], second[index][:2]):
            assert torch.equal(a, b) and a.shape == (3, 32, 32) and a.dtype == torch.uint8
    other = JPEGPairs(PHOTOGRAPHS, 32, 10, seed=1)
    assert any(not torch.equal(first[i][0], other[i][0]) for i in range(5))


def test_pairs_are_compressed_and_the_grid_is_aligned_half_of_the_time():
    pairs = JPEGPairs(PHOTOGRAPHS, 32, 200, quality=lambda rng: 10)
    aligned = 0
    for index in range(200):
        compressed, original, quality = pairs[index]
        assert quality == 10 and not torch.equal(compressed, original)
        steps = np.abs(np.diff(compressed.numpy().astype(float).mean(0), axis=1)).mean(0)
        aligned += steps[7::8].mean() > 1.5 * np.delete(steps, np.s_[7::8]).mean()
    assert 70 < aligned < 150  # one in 64 of the others is aligned by chance, and columns alone one in 8


def test_subsampling_is_drawn():
    """4:4:4 keeps the colour that 4:2:0 halves."""
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[::2, ::2] = colour[1::2, 1::2] = (255, 0, 0)
    colour[::2, 1::2] = colour[1::2, ::2] = (0, 129, 0)  # of equal luma, about
    costs = []
    for shares in ({}, {"p_422": 1.0}, {"p_444": 1.0}):
        compressed, original, _ = JPEGPairs([colour], 32, 1, lambda rng: 95, **shares)[0]
        costs.append((compressed.float() - original.float()).abs().mean().item())
    assert costs[2] < 0.3 * costs[0] and costs[2] < costs[1]
    stripes = np.zeros((64, 64, 3), np.uint8)  # across, 4:2:2 keeps them
    stripes[::2], stripes[1::2] = (255, 0, 0), (0, 129, 0)
    costs = []
    for p_422 in (0.0, 1.0):
        compressed, original, _ = JPEGPairs([stripes], 32, 1, lambda rng: 95, p_422=p_422, turns=False)[0]
        costs.append((compressed.float() - original.float()).abs().mean().item())
    assert costs[1] < 0.3 * costs[0]


def test_second_compression_is_of_the_noted_quality():
    """The last compression's QF is returned: compressing once more at it, on its grid, changes next to nothing."""
    drawn = iter([40, 10] * 20)
    pairs = JPEGPairs(PHOTOGRAPHS, 32, 20, lambda rng: next(drawn), p_second=1.0)
    twice, changes = 0, []
    once = JPEGPairs(PHOTOGRAPHS, 32, 20, lambda rng: 40)
    for index in range(20):
        compressed, original, quality = pairs[index]
        assert quality == 40
        image = compressed.permute(1, 2, 0).numpy()
        again = codec.compress(np.ascontiguousarray(image), 40)
        changes.append(np.abs(again.astype(int) - image).mean())
        error = (compressed.float() - original.float()).abs().mean()
        twice += error > 1.2 * (once[index][0].float() - once[index][1].float()).abs().mean()
    assert np.mean(changes) < 1.0 and twice > 15


def test_some_are_resized_after_compression_and_the_original_with_them():
    """A ramp keeps its mean slope times 1/scale, in both; what is not resized is as without the option."""
    ramp = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (256, 1))[..., None], 3, axis=2)
    slopes = []
    for index in range(30):
        compressed, original, _ = JPEGPairs([ramp], 32, 30, lambda rng: 90, p_resized=1.0, turns=False)[index]
        both = [np.abs(np.diff(one[0].float().numpy().mean(0))).mean() for one in (compressed, original)]
        assert both[0] == pytest.approx(both[1], abs=0.15)
        slopes.append(both[1])
    assert 0.55 < min(slopes) < 0.8 and 1.4 < max(slopes) <= 2.1  # scales of 0.5 to 1.5
    plain, never = JPEGPairs(PHOTOGRAPHS, 32, 4), JPEGPairs(PHOTOGRAPHS, 32, 4, p_resized=0.0)
    assert all(torch.equal(one, other) for one, other in zip(plain[2][:2], never[2][:2], strict=True))
    small = [np.ascontiguousarray(PHOTOGRAPHS[0][:44, :44])]  # there is no room to make it smaller
    assert JPEGPairs(small, 32, 8, p_resized=1.0)[3][0].shape == (3, 32, 32)


def test_what_was_resized_may_be_compressed_again():
    drawn = iter([80, 10] * 10)
    pairs = JPEGPairs(PHOTOGRAPHS, 32, 10, lambda rng: next(drawn), p_second=1.0, p_resized=1.0, aligned=True)
    for index in range(10):
        compressed, _, quality = pairs[index]
        image = np.ascontiguousarray(compressed.permute(1, 2, 0).numpy())
        assert quality == 10 and np.abs(codec.compress(image, 10).astype(int) - image).mean() < 2.5


def test_qualities_follow_their_recipes():
    rng = np.random.default_rng(0)
    drawn = [restoration_quality(rng) for _ in range(4000)]
    assert min(drawn) >= 8 and max(drawn) <= 96
    assert np.mean([q in (10, 20, 30, 40, 50, 60) for q in drawn]) == pytest.approx(0.75 + 0.25 * 6 / 89, abs=0.03)
    assert {uniform_quality(rng) for _ in range(4000)} == set(range(3, 100))
    assert {quality_recipe([10, 20])(rng) for _ in range(50)} == {10, 20}
    with pytest.raises(UsageError, match="qualities"):
        quality_recipe("nice")


def test_small_and_unreadable_images_are_left_out_by_name(tmp_path):
    Image.fromarray(PHOTOGRAPHS[0]).save(tmp_path / "good.png")
    Image.fromarray(PHOTOGRAPHS[0][:20, :20]).save(tmp_path / "small.png")
    (tmp_path / "bad.jpg").write_bytes(b"x")
    photographs, skipped = load_photographs([tmp_path], 32)
    assert len(photographs) == 1 and sorted(line.split("/")[-1].split(":")[0] for line in skipped) == ["bad.jpg", "small.png"]
    with pytest.raises(UsageError, match="no usable.*3 left out: .*bad.jpg"):
        load_photographs([tmp_path], 500)


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none: No such file.*--data"):
        load_photographs([tmp_path / "none"], 32)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match="no images"):
        load_photographs([tmp_path], 32)
    with pytest.raises(UsageError, match="Not a directory"):
        load_photographs([tmp_path / "notes.txt"], 32)


def test_a_patch_schedule_follows_the_run_and_is_one_side_per_step():
    pairs = JPEGPairs(PHOTOGRAPHS, [(0.0, 16), (0.45, 32), (0.75, 48)], 40, group=4)
    sides = [pairs[index][0].shape[-1] for index in range(40)]
    assert sides == [16] * 20 + [32] * 12 + [48] * 8  # ten steps of four: 4.5 and 7.5 are rounded up to whole steps
    for wrong in (20, [], [(0.5, 16)], [(0.0, 16), (0.0, 32)], [(0, 8)]):
        with pytest.raises(UsageError, match="patch"):
            patch_schedule(wrong)


def test_processes_share_out_the_samples_of_one_with_their_batches_together():
    whole = list(StepBatches(3, 4))
    parts = [list(StepBatches(3, 2, rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*parts)] == whole == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_resumed_loader_starts_at_its_step_and_workers_change_nothing():
    pairs = JPEGPairs(PHOTOGRAPHS, 32, 12)
    expected = [batch[0] for batch in loader(pairs, StepBatches(6, 2), 0)]
    batches = StepBatches(6, 2)
    batches.first_step = 4
    found = [batch[0] for batch in loader(pairs, batches, 2)]
    assert len(found) == 2 and all(torch.equal(a, b) for a, b in zip(expected[4:], found))


def test_validation_pairs_are_fixed_crops_at_every_quality():
    pairs = ValidationPairs(PHOTOGRAPHS[:2], [10, 40], 48)
    assert [pairs[i][2] for i in range(len(pairs))] == [10, 40, 10, 40]
    compressed, original, _ = pairs[3]
    assert np.array_equal(original.permute(1, 2, 0).numpy(), PHOTOGRAPHS[1][:48, :48])
    expected = codec.compress(np.ascontiguousarray(PHOTOGRAPHS[1][:48, :48]), 40)
    assert np.array_equal(compressed.permute(1, 2, 0).numpy(), expected)


def test_without_turns_crops_are_only_mirrored():
    """Brighter downwards, redder to the right; what else is drawn stays the same."""
    y, x = np.mgrid[:96, :96].astype(np.uint8)
    ramp = [np.stack([2 * x, 2 * y, 2 * y], axis=2)]
    turned, upright = (JPEGPairs(ramp, 32, 40, seed=3, turns=turns) for turns in (True, False))
    down, right = [], []
    for index in range(40):
        (_, first, quality), (_, second, same) = turned[index], upright[index]
        assert quality == same and first.shape == second.shape
        down.append([image[1, -1].float().mean() > image[1, 0].float().mean() for image in (first, second)])
        right.append(bool(second[0, :, -1].float().mean() > second[0, :, 0].float().mean()))
    down = np.array(down)
    assert not down[:, 0].all() and down[:, 1].all() and 10 < sum(right) < 30
