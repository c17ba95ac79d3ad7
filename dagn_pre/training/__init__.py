"""The three stages that train a DAGN (Ma et al., TIP 2024, Sec. III; ``python -m dagn_pre.training --help``)."""
