# A last touch to a trained network (load_from=...): less of the grid that PSNR-B sees, at next to no PSNR.
_base_ = "dagn.py"
patch = 128
steps = 1200
lr = 1e-4
warmup = 50
lambda_blocking = 11.0
ema_decay = 0.995
