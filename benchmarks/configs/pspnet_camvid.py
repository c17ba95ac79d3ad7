# PSPNet on CamVid: street scenes whose originals are lossless, so that JPEG at a QF is their first compression. A ResNet-18 of
# half the width, trained from nothing on the 190 images of CamVid/train (dagn-pre bench train pspnet_camvid
# --work-dir D), tested on the 60 of CamVid/val at their native 480x360. The data root is the folder that DAGN_PRE_DATA names.
_base_ = ['mmseg::pspnet/pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py']

data_root = '{{$DAGN_PRE_DATA:data/dagn-pre}}/'
checkpoint = 'pspnet_camvid.pth'  # ships in benchmarks/weights
benchmark = dict(model='PSPNet R18-D8 (width 32)', dataset='CamVid val')
classes = ('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist')
palette = [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0], [192, 128, 128],
           [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]]
void = 11  # unlabelled pixels, ignored

custom_imports = dict(imports=['dagn_pre.training.runner'])  # BFloat16OptimWrapper

crop_size = (288, 384)
norm_cfg = dict(type='BN', requires_grad=True)
data_preprocessor = dict(size=crop_size, seg_pad_val=void)
model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(depth=18, base_channels=32, stem_channels=32, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=256, channels=64, num_classes=11, ignore_index=void, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=128, channels=32, num_classes=11, ignore_index=void, norm_cfg=norm_cfg))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.75), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75, ignore_index=void),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(480, 360), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    _delete_=True,
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes, palette=palette),
    ignore_index=void,
    img_suffix='.webp',
    seg_map_suffix='.png')
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_prefix=dict(img_path='CamVid/train', seg_map_path='CamVid/trainannot'), pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_prefix=dict(img_path='CamVid/val', seg_map_path='CamVid/valannot'), pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=void)
test_evaluator = val_evaluator

max_iters = 1600
train_cfg = dict(max_iters=max_iters, val_interval=400)
optim_wrapper = dict(
    _delete_=True,
    type='BFloat16OptimWrapper',  # twice as fast on a CPU with AMX
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05),
    clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400, max_keep_ckpts=1))
randomness = dict(seed=0)
