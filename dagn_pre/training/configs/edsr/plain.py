# The backbone without side information: what the rate-distortion curves compare with, and what edsr/side starts from.
_base_ = "base.py"
name = "edsr-s"
stage = "peer"
architecture = "edsr"
network = dict(width=32, blocks=8)
patch = 64
steps = 10000
