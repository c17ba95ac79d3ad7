_base_ = "base.py"
name = "arcnn"
architecture = "arcnn"
network = dict(residual=True)
