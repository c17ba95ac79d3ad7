# dagn-xs for models: dagn-xs-psnr trained on as dagn-s was. The shipped weights: twelve minutes of a GPU in two runs,
# the second from the first (docs/training.md).
_base_ = "../dagn-s/semantic.py"
name = "dagn-xs"
trunk = "dagn-xs-psnr"
p_422 = 0.1
p_second = 0.25
p_resized = 0.15
lr = 5e-4
