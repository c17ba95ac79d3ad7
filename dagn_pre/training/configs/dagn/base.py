# The paper's network. bfloat16 and the batches are for a GPU.
_base_ = "../base.py"
name = "dagn"
amp = "bf16"
workers = 8
lr = 2e-4
warmup = 2000
