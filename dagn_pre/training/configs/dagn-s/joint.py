# The three stages in a row. A key beside `stages` holds for all of them, one inside for that stage alone.
stages = dict(
    insensitive=dict(config="insensitive.py"),
    sensitive=dict(config="sensitive.py"),
    dagn=dict(config="dagn.py"),
)
