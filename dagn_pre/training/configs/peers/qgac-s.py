# Narrowed to dagn-s's cost; the paper's has 262 M parameters, nearly all of them in its filter manifolds.
_base_ = "base.py"
name = "qgac-s"
architecture = "qgac"
network = dict(features=128, planes=16, manifold=8)
aligned = True
channels_last = False  # its maps are 8 blocks wide
