# dagn-xs for models: dagn-xs-psnr trained on as dagn-s was. The shipped weights: four minutes of a GPU (docs/training.md).
_base_ = "../dagn-s/semantic.py"
name = "dagn-xs"
trunk = "dagn-xs-psnr"
p_422 = 0.1
p_second = 0.25
p_resized = 0.15
lr = 5e-4
