"""A share of tools/fuzz.py's mutated files: other ones would be ``tools/fuzz.py --seed``."""

from __future__ import annotations

import fuzz
import pytest


@pytest.mark.slow
def test_mutated_files_end_nothing():
    counts, failures = fuzz.run(300, seed=2026, processes=1)
    assert not failures, "\n".join(map(str, failures))
    restored = sum(count for kind, count in counts.items() if kind.endswith(" restored"))
    refused = sum(count for kind, count in counts.items() if kind.endswith(" refused") and not kind.startswith("transform"))
    assert restored + refused == 300 and min(restored, refused) > 50


def test_a_number_is_always_the_same_file_and_no_two_are_alike():
    files = [fuzz.mutated(7, number) for number in range(50)]
    assert files == [fuzz.mutated(7, number) for number in range(50)]
    assert len({data for _, data in files}) > 45 and {kind for kind, _ in files} <= set(fuzz.seeds())


@pytest.mark.parametrize("kind", fuzz.seeds())
def test_what_is_mutated_is_good_to_begin_with(kind):
    import io

    from PIL import Image

    Image.open(io.BytesIO(fuzz.seeds()[kind])).load()
