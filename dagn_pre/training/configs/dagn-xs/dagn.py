_base_ = "base.py"
stage = "dagn"
patch = [(0.0, 64), (0.5, 96), (0.8, 128)]
p_444 = 0.1
p_second = 0.1
steps = 20000
ema_decay = 0.999
