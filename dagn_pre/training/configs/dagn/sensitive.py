_base_ = "base.py"
stage = "sensitive"
qualities = "uniform"
batch = 32
patch = 128
steps = 40000
