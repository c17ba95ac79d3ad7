_base_ = "../base.py"
name = "dagn-s-psnr"
network = dict(
    widths=(32, 64, 96, 128),
    blocks=(1, 2, 2, 2),
    guided_blocks=(2, 2, 1),
    encoder_depth=18,
    encoder_width=16,
    guider_widths=(128, 64),
    residual=True,
)
