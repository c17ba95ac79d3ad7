# dagn-xs for models: dagn-xs-psnr trained on as dagn-s was.
_base_ = "../dagn-s/semantic.py"
name = "dagn-xs"
trunk = "dagn-xs-psnr"
lr = 5e-4
