"""How data sets lie in folders and buckets: trees of files, WebDataset's tar shards, Parquet files with a column of images.

What is restored from a layout is written in the same one. A layout gives its parts folder by folder, so that the list of all is
never held, and restores some of them with whatever it is handed for that: :data:`Restoring`. Each output is written whole
before its rows are given; rows name an image of a shard or of a Parquet file as ``shard.tar#member``, ``part.parquet#row``.
"""

from __future__ import annotations

from dagn_pre.layouts.base import SAME, Layout, Part, Restoring
from dagn_pre.layouts.containers import MARK, Container
from dagn_pre.layouts.parquet import Parquet, suffix_of
from dagn_pre.layouts.shards import Shards
from dagn_pre.layouts.tree import Tree
from dagn_pre.storage import Store

__all__ = ["MARK", "SAME", "Layout", "Parquet", "Part", "Restoring", "Shards", "Tree", "layout_of", "suffix_of"]

CONTAINERS: dict[str, type[Container]] = {"shards": Shards, "parquet": Parquet}
LAYOUTS: dict[str, type[Layout]] = {"tree": Tree, **CONTAINERS}


def layout_of(source: Store, chosen: str | None) -> str:
    """The layout's name: what was chosen, or of one file by its suffix, else a tree."""
    if chosen:
        return chosen
    return next((name for name, kind in CONTAINERS.items() if source.root.lower().endswith(kind.SUFFIX)), "tree")
