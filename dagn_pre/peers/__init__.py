"""The other restorers: adapters of libraries to :mod:`dagn_pre.protocol`. ``pip install "dagn-pre[peers]"``."""
