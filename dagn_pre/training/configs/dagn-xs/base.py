# A tenth of dagn-s's operations: half the resolution from the first layer on, and no compression-insensitive encoder, whose
# guidance does not pay in decibels nor in front of models (docs/results/downstream.md); what reads the quality is half as wide.
_base_ = "../base.py"
name = "dagn-xs-psnr"
network = dict(
    shuffle=2,
    widths=(32, 48, 80),
    blocks=(1, 1, 1),
    guided_blocks=(1, 1),
    encoder_depth=18,
    encoder_width=8,
    guider_widths=(128, 64),
    insensitive=False,
    fusion=False,
    residual=True,
)
