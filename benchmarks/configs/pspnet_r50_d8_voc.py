# PSPNet R50-D8 on VOC 2012 val, the segmenter of the paper's Table IV, as mmseg tests it (77.29 mIoU).
# VOC's folders (JPEGImages/, SegmentationClass/, ImageSets/) lie in the data root.
_base_ = 'mmseg::pspnet/pspnet_r50-d8_4xb4-40k_voc12aug-512x512.py'

checkpoint = (
    'https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r50-d8_512x512_40k_voc12aug/'
    'pspnet_r50-d8_512x512_40k_voc12aug_20200613_161222-ae9c1b8c.pth')
benchmark = dict(model='PSPNet R50-D8', dataset='VOC 2012 val')
