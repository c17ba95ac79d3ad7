"""What compression costs and what restoring wins back, installed as ``dagn_pre.benchmarks``.

``downstream``   scores a host's model on original, compressed and restored images: ``dagn-pre bench run``
``restoration``  scores the restored images themselves, in dB, and what restorers cost: ``dagn-pre evaluate`` and others
``demo``         the data set that is rendered from a seed; ``configs``, ``weights``: the host models that are measured
``results``, ``environment``, ``markdown``: what both rooms keep, note and write alike

``downstream`` and ``restoration`` do not import each other.
"""
