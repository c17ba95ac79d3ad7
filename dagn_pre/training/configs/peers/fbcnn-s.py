# Narrowed to dagn-s's cost.
_base_ = "base.py"
name = "fbcnn-s"
architecture = "fbcnn"
network = dict(widths=(32, 64, 112, 160), blocks=2)
