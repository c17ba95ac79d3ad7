_base_ = "base.py"
stage = "sensitive"
qualities = "uniform"
patch = 192  # on smaller patches, borders blur what a quality looks like
steps = 3600
vector_images = 128
