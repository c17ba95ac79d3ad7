# Faster R-CNN R50-FPN on COCO val2017, the detector of the paper's Table IV, as mmdet tests it (37.4 bbox mAP).
# COCO's folders (val2017/, annotations/instances_val2017.json) lie in the data root.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

checkpoint = (
    'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_1x_coco/'
    'faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth')
benchmark = dict(model='Faster R-CNN R50-FPN', dataset='COCO val2017')
