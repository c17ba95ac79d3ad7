# Faster R-CNN on VOC 2012's boxes by mmdet's own config, on the backbone and the neck of YOLOX-nano, which COCO has taught to
# detect: 3046 photographs are too few for a neck to learn from nothing. (dagn-pre bench train faster_rcnn_voc --work-dir D,
# after the photographs of VOC/train were fetched: benchmarks/weights/README.md.) Tested on 239 photographs of VOC 2012 val at
# their native size. The data root is the folder that DAGN_PRE_DATA names.
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py']

data_root = '{{$DAGN_PRE_DATA:data/dagn-pre}}/'
checkpoint = 'faster_rcnn_voc.pth'  # ships in benchmarks/weights
load_from = data_root + 'weights/yolox_nano_coco_mmdet3.pth'
scored = ('cat', 'chair', 'cow', 'dog', 'horse', 'person', 'sheep', 'sofa')  # at least ten images each
benchmark = dict(model='Faster R-CNN CSPDarknet-nano', dataset='VOC 2012 val sample', scored=scored)
classes = ('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable', 'dog', 'horse',
           'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')
metainfo = dict(classes=classes)

custom_imports = dict(imports=['dagn_pre.benchmarks.downstream.hosts.hooks'])
custom_hooks = [dict(type='BFloat16Modules', modules=['backbone', 'neck'])]

width = 64  # channels of YOLOX-nano's neck
strides = [8, 16, 32]
norm_cfg = dict(type='BN', momentum=0.03, eps=0.001)
model = dict(
    data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3, bgr_to_rgb=False),
    backbone=dict(
        _delete_=True,
        type='CSPDarknet',
        deepen_factor=0.33,
        widen_factor=0.25,
        use_depthwise=True,
        norm_cfg=norm_cfg,
        act_cfg=dict(type='Swish'),
        frozen_stages=4,
        norm_eval=True),
    neck=dict(
        _delete_=True,
        type='YOLOXPAFPN',
        in_channels=[64, 128, 256],
        out_channels=width,
        num_csp_blocks=1,
        use_depthwise=True,
        norm_cfg=norm_cfg,
        act_cfg=dict(type='Swish')),
    rpn_head=dict(
        in_channels=width, feat_channels=128, anchor_generator=dict(scales=[4, 8], ratios=[0.5, 1.0, 2.0], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(sampling_ratio=2), out_channels=width, featmap_strides=strides),
        bbox_head=dict(in_channels=width, fc_out_channels=512, num_classes=20)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=600, max_per_img=300),
        rcnn=dict(sampler=dict(num=96, pos_fraction=0.33))),
    test_cfg=dict(rpn=dict(nms_pre=600, max_per_img=200)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=[(320, 320), (512, 512)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(500, 500), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='VOC/annotations/train.json',
        data_prefix=dict(img='VOC/train/images'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='VOC/annotations/val.json',
        data_prefix=dict(img='VOC/val/images'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'VOC/annotations/val.json')
test_evaluator = val_evaluator

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(neck=dict(lr_mult=0.2))),
    clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, eta_min=1e-6, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
