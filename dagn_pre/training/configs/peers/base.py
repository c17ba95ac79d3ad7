# What the peers share: dagn-s's data and average.
_base_ = "../base.py"
stage = "peer"
patch = 64
ema_decay = 0.999
steps = 18000
