# EDSR-baseline* (Ma, Liu et al., 2020) at 8 blocks of 32 channels, 44 GMAC at 512x512; the paper's has 16 of 64.
_base_ = "../base.py"
aligned = True
ema_decay = 0.999
