_base_ = "base.py"
stage = "insensitive"
patch = 96
steps = 5400
lr = 2e-3
