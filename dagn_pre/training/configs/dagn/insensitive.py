_base_ = "base.py"
stage = "insensitive"
batch = 32
patch = 128
steps = 20000
