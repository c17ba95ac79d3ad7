"""What compression costs a model and what restoring wins back, installed as ``dagn_pre.benchmarks``."""
