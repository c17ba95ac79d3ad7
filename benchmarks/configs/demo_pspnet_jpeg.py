# What users consider first instead of restoring: the demo's PSPNet, fine-tuned on images that are JPEGs of any QF from 10 to 90
# three times out of four.
_base_ = ['./demo_pspnet.py']

checkpoint = 'demo_pspnet_jpeg.pth'  # ships in benchmarks/weights
load_from = 'demo_pspnet.pth'
benchmark = dict(model='PSPNet R18-D8 (width 16), JPEG-augmented', variant_of='PSPNet R18-D8 (width 16)')
custom_imports = dict(imports=['dagn_pre.integrations.openmmlab'])

train_pipeline = [
    _base_.train_pipeline[0],  # loads
    dict(type='JPEGCompress', quality=(10, 90), prob=0.75),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_iters = 480  # half of what the model was trained for, at half of the rate
train_cfg = dict(max_iters=max_iters, val_interval=240)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, eta_min=5e-6),
]
