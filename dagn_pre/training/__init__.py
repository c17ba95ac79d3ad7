"""The three stages that train a DAGN (Ma et al., TIP 2024, Sec. III), on mmengine; ``dagn-pre train --help``."""
