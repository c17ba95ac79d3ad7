_base_ = "base.py"
stage = "dagn"
# Small patches learn fastest; larger ones later, since photographs have more context and fewer borders.
patch = [(0.0, 64), (0.35, 96), (0.75, 144)]
batch = 16
p_444 = 0.1
p_422 = 0.05
p_second = 0.15
p_resized = 0.1
steps = 40000
ema_decay = 0.999
