# dagn-s for models: dagn-s-psnr trained on under the features of four networks of different design. Make the texture teacher
# first: dagn-pre train-data texture PHOTOS... -o $DAGN_PRE_DATA/texture.safetensors.
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
    yolox=dict(
        kind="dagn_pre.integrations.openmmlab.teachers:model",
        config="mmdet::yolox/yolox_nano_8xb8-300e_coco.py",
        checkpoint="{{$DAGN_PRE_DATA:data}}/weights/yolox_nano_coco_mmdet3.pth",
        layers=["backbone", "neck"],
    ),
    mobilenet_v2=dict(
        kind="dagn_pre.integrations.openmmlab.teachers:backbone",
        host="mmdet",
        type="MobileNetV2",
        checkpoint="{{$DAGN_PRE_DATA:data}}/weights/mobilenet_v2_imagenet_mmdet.pth",
        layers=["layer1", "layer2", "layer3", "layer5"],
        mean=[127.5] * 3,
        std=[127.5] * 3,
    ),
    lite0=dict(
        kind="timm",
        name="tf_efficientnet_lite0",
        weights="{{$DAGN_PRE_DATA:data}}/weights/efficientnet_lite0_imagenet_timm.pth",
        layers=["blocks.0", "blocks.1", "blocks.2", "blocks.4"],
        out_indices=[0, 1, 2, 3],
        mean=[127.5] * 3,
        std=[127.5] * 3,
    ),
    texture=dict(
        kind="texture",
        weights="{{$DAGN_PRE_DATA:data}}/texture.safetensors",
        layers=["stem", "stages.0", "stages.1", "stages.2"],
        weight=1.5,
    ),
)
lambda_pixels = 2.5
per_step = 2
patch = 96
batch = 8
steps = 6500
lr = 3e-4
warmup = 100
ema_decay = 0.999
amp = "bf16"
