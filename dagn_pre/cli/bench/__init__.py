"""``dagn-pre bench``: what JPEG costs a host's model and what restoring wins back, and the measurements around that."""

from __future__ import annotations

HELP = "measure what JPEG costs a host's model and what restoring wins back; what restorers cost"
EXAMPLE = "dagn-pre bench run demo --work-dir work_dirs/demo"
