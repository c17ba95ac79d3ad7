# The first part of the training of pspnet_voc: at stride 16 a step costs less than half as much, and the weights are the same.
_base_ = ['./pspnet_voc.py']

load_from = None
checkpoint = 'pspnet_voc_stride16.pth'  # not shipped: pspnet_voc starts from it
benchmark = dict(model='PSPNet MobileNetV2-D16')
model = dict(backbone=dict(strides=(1, 2, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 1, 1, 2, 2)))

max_iters = 4000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', by_epoch=False, power=0.9, begin=0, end=max_iters, eta_min=1e-5),
]
