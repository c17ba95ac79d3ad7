# PSPNet on the demo's data set: the host's own config with a ResNet-18 of a quarter of the width. Its backbone starts from
# that of the demo's Faster R-CNN, which is trained from scratch on the same images.
# Images stay at their native 256x192: the Resize of the test pipeline is the host's step and changes nothing.
_base_ = ['mmseg::pspnet/pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py']

data_root = 'data/dagn-demo/'
checkpoint = 'demo_pspnet.pth'  # ships in benchmarks/weights
load_from = 'demo_faster_rcnn.pth'  # training starts from its backbone
benchmark = dict(model='PSPNet R18-D8 (width 16)', dataset='demo')
classes = ('background', 'linen', 'corduroy', 'ribbed', 'felt', 'twill', 'plain', 'star', 'ring')
palette = [[0, 0, 0], [230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200], [245, 130, 48], [145, 30, 180],
           [70, 240, 240], [240, 50, 230]]
metainfo = dict(classes=classes, palette=palette)

crop_size = (192, 256)
norm_cfg = dict(type='BN', requires_grad=True)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(depth=18, base_channels=16, stem_channels=32, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=128, channels=32, num_classes=9, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=64, channels=16, num_classes=9, norm_cfg=norm_cfg))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    _delete_=True,
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=metainfo,
    data_prefix=dict(img_path='images', seg_map_path='SegmentationClass'),
    img_suffix='.png',
    seg_map_suffix='.png')
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(ann_file='ImageSets/Segmentation/train.txt', pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(ann_file='ImageSets/Segmentation/val.txt', pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

max_iters = 960
train_cfg = dict(max_iters=max_iters, val_interval=240)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=5)}),  # the heads start from nothing
    clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=240, max_keep_ckpts=1))
randomness = dict(seed=0)
