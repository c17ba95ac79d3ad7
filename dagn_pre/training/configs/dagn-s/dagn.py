_base_ = "base.py"
stage = "dagn"
# Small patches learn fastest; larger ones later, since photographs have more context and fewer borders.
patch = [(0.0, 64), (0.5, 96), (0.8, 128)]
steps = 18000
ema_decay = 0.999
