_base_ = "base.py"
stage = "sensitive"
qualities = "uniform"
patch = 96
steps = 4000
