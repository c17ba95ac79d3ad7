_base_ = "base.py"
name = "dmcnn"
architecture = "dmcnn"
aligned = True  # works on the file's blocks
