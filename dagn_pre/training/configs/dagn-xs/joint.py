# Stage 1b and stage 2: without compression-insensitive features there is no stage 1a.
stages = dict(
    sensitive=dict(config="sensitive.py"),
    dagn=dict(config="dagn.py"),
)
