# What users consider first instead of restoring: the PSPNet on VOC, fine-tuned on images that are JPEGs of any QF from 10 to 90
# three times out of four. Early layers learn too, which see JPEG first.
_base_ = ['./pspnet_voc.py']

checkpoint = 'pspnet_voc_jpeg.pth'  # ships in benchmarks/weights
load_from = 'pspnet_voc.pth'
benchmark = dict(model='PSPNet MobileNetV2-D16, JPEG-augmented', variant_of='PSPNet MobileNetV2-D16')
custom_imports = dict(
    imports=['dagn_pre.training.runner', 'dagn_pre.benchmarks.downstream.hosts.hooks', 'dagn_pre.integrations.openmmlab'])
model = dict(backbone=dict(frozen_stages=1))

train_pipeline = [
    _base_.train_pipeline[0],  # loads
    dict(type='JPEGCompress', quality=(10, 90), prob=0.75),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_iters = 750  # half of what the model was trained for, at half of the rate
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=0.0005))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', by_epoch=False, power=0.9, begin=0, end=max_iters, eta_min=1e-6),
]
