"""Plain ``nn.Module`` architectures, one file each."""
