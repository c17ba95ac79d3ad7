# What users consider first instead of restoring: the Faster R-CNN on VOC, fine-tuned on images that are JPEGs of any QF from 10
# to 90 three times out of four. Early layers learn too, which see JPEG first, but slowly: at the head's rate they lose
# what COCO taught them.
_base_ = ['./faster_rcnn_voc.py']

checkpoint = 'faster_rcnn_voc_jpeg.pth'  # ships in benchmarks/weights
load_from = 'faster_rcnn_voc.pth'
benchmark = dict(model='Faster R-CNN CSPDarknet-nano, JPEG-augmented', variant_of='Faster R-CNN CSPDarknet-nano')
custom_imports = dict(
    imports=['dagn_pre.benchmarks.downstream.hosts.hooks', 'dagn_pre.integrations.openmmlab'])
model = dict(backbone=dict(frozen_stages=1))

train_pipeline = [
    _base_.train_pipeline[0],  # loads
    dict(type='JPEGCompress', quality=(10, 90), prob=0.75),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 3  # half of what the model was trained for, at half of the rate
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=0.0005),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.05))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, eta_min=1e-6, convert_to_iter_based=True),
]
