# Side information for dagn-s: the shipped network as it is, and what conditions its guided decoder.
_base_ = "../base.py"
name = "dagn-s-side"
stage = "side"
architecture = "side_information"
network = dict(shift=True)
trunk = "dagn-s-psnr"
aligned = True
patch = 96
ema_decay = 0.999
relative = True
lambda_rate = 0.005
lr = 2e-3
steps = 4000
rate_warmup = 2000
