# PSPNet on VOC 2012 by mmseg's own config, with a narrower head, on the MobileNetV2 of a published DeepLabV3, which COCO and
# VOC have taught to segment, at its stride of 16: 3131 photographs are too few to teach an ImageNet backbone (54 mIoU).
# tools/mobilenet_v2_of_deeplab.py makes its file. (dagn-pre bench train pspnet_voc --work-dir D, after the photographs of
# VOC/train were fetched: benchmarks/weights/README.md.) Tested on the 300 photographs of VOC/val at their native size. The data
# root is the folder that DAGN_PRE_DATA names.
_base_ = ['mmseg::mobilenet_v2/mobilenet-v2-d8_pspnet_4xb2-80k_cityscapes-512x1024.py']

data_root = '{{$DAGN_PRE_DATA:data/dagn-pre}}/'
checkpoint = 'pspnet_voc.pth'  # ships in benchmarks/weights
scored = ('background', 'cat', 'chair', 'cow', 'dog', 'horse', 'person', 'sheep', 'sofa')  # at least ten images each
benchmark = dict(model='PSPNet MobileNetV2-D16', dataset='VOC 2012 val sample', scored=scored)
classes = ('background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable',
           'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')
palette = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128],
           [64, 0, 0], [192, 0, 0], [64, 128, 0], [192, 128, 0], [64, 0, 128], [192, 0, 128], [64, 128, 128], [192, 128, 128],
           [0, 64, 0], [128, 64, 0], [0, 192, 0], [128, 192, 0], [0, 64, 128]]

custom_imports = dict(imports=['dagn_pre.training.runner', 'dagn_pre.benchmarks.downstream.hosts.hooks'])
custom_hooks = [dict(type='FixedDepthwise')]

crop_size = (336, 336)
norm_cfg = dict(type='BN', requires_grad=True)
data_preprocessor = dict(size=crop_size, mean=[127.5] * 3, std=[127.5] * 3)
model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(
        norm_cfg=norm_cfg,
        norm_eval=True,  # its statistics are folded into the convolutions
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        frozen_stages=5,
        init_cfg=dict(type='Pretrained', checkpoint=data_root + 'weights/mobilenet_v2_deeplabv3_mmseg.pth')),
    decode_head=dict(channels=128, num_classes=21, norm_cfg=norm_cfg),
    auxiliary_head=None)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(500, 500), ratio_range=(0.6, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.85),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    _delete_=True,
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes, palette=palette),
    img_suffix='.jpg',
    seg_map_suffix='.png')
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_prefix=dict(img_path='VOC/train/images', seg_map_path='VOC/train/masks'), pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_prefix=dict(img_path='VOC/val/images', seg_map_path='VOC/val/masks'), pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

max_iters = 1500
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    _delete_=True,
    type='BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),
    clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', by_epoch=False, power=0.9, begin=0, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=300, max_keep_ckpts=1))
randomness = dict(seed=0)
