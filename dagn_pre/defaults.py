"""What an option is where nothing is said, for those that the library, the command line and the benchmark share."""

from __future__ import annotations

# What restores: as good in front of models as dagn-s at a ninth of its cost (docs/results/downstream.md).
MODEL = "dagn-xs"

# At or above this QF an image is left as it is. Restored at every QF, no measured model was worse off up to QF 85, and one was
# at 90 and 95 (docs/results/downstream.md, "For models").
MAX_QUALITY = 85

# What is restored of which no header and nobody says that it is a JPEG: where its pixels show it (docs/lossless.md).
RESTORE_LOSSLESS = "blind"
LOSSLESS_MODES = ("always", "blind", "never")  # what it may be
