_base_ = "base.py"
stage = "dagn"
batch = 32
patch = [(0.0, 96), (0.7, 128)]
steps = 400000
ema_decay = 0.999
