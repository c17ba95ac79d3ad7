"""``dagn-pre train-data``: what is done with photographs before ``dagn-pre train`` learns from them."""

from __future__ import annotations

HELP = "prepare photographs for training, find test images among them, and train the texture teacher on them"
EXAMPLE = "dagn-pre train-data leakage --train photos --test LIVE1"
