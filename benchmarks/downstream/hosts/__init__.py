"""What knows mmdet and mmseg: their configs, test data and Runner, processes that share a test, and training their models."""
