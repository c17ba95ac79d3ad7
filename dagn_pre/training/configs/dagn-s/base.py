# DAGN's whole topology at half the resolution from the first layer on, which costs a quarter of what it does at full
# resolution (docs/results/cost.md).
_base_ = "../base.py"
name = "dagn-s-psnr"
network = dict(
    shuffle=2,
    widths=(32, 64, 128),
    blocks=(2, 2, 2),
    guided_blocks=(3, 2),
    encoder_depth=18,
    encoder_width=16,
    guider_widths=(128, 64),
    residual=True,
)
