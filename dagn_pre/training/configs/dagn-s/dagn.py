_base_ = "base.py"
stage = "dagn"
patch = [(0.0, 64), (0.6, 96), (0.85, 128)]
steps = 30000
ema_decay = 0.999
