_base_ = "base.py"
stage = "insensitive"
steps = 2500
