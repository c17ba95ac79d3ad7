# YOLOX-nano on 200 images of COCO val2017: real photographs, quick enough for two cores. The data root is the folder
# that DAGN_PRE_DATA names, with COCO/val, COCO/annotations/val.json and weights/ in it.
_base_ = 'mmdet::yolox/yolox_nano_8xb8-300e_coco.py'

data_root = '{{$DAGN_PRE_DATA:data/dagn-pre}}/'
checkpoint = data_root + 'weights/yolox_nano_coco_mmdet3.pth'
benchmark = dict(model='YOLOX-nano', dataset='COCO val2017 sample')

val_dataloader = dict(
    batch_size=1,
    dataset=dict(data_root=data_root, ann_file='COCO/annotations/val.json', data_prefix=dict(img='COCO/val/')))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'COCO/annotations/val.json')
test_evaluator = val_evaluator
