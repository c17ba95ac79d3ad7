_base_ = "base.py"
name = "arcnn"
architecture = "arcnn"
network = dict(residual=True)
lr = 3e-4  # at 1e-3 its ReLUs die
