# Table V and Fig. 13: each row a training of its own, at one budget and seed; stages that rows share are trained once.
_base_ = "joint.py"
stages = dict(
    insensitive=dict(steps=300, patch=64, lr=1e-3),
    sensitive=dict(steps=300, patch=96, vector_images=64),
    dagn=dict(steps=1000, patch=64, validation_images=0),
)
warmup = 50
save_every = 10000
tensorboard = False

evaluation = "{{$DAGN_PRE_DATA:data}}/LIVE1"
evaluation_qualities = [10, 20, 30, 40]
evaluation_images = None  # the first N alone

_ = "stages.dagn.network."
rows = {
    "baseline": {_ + "insensitive": False, _ + "sensitive": False, _ + "fusion": False},
    "+ CIGM": {_ + "sensitive": False, _ + "fusion": False},
    "+ CSGM": {_ + "insensitive": False, _ + "fusion": False},
    "+ CFM": {_ + "insensitive": False, _ + "sensitive": False},
    "+ CIGM + CSGM + CFM": {},
    "end to end": {"stages.dagn.end_to_end": True, "stages.dagn.steps": 1600},  # stage 1's steps too, spent on the pixels
    "lambda_ci 0.1": {"stages.insensitive.lambda_ci": 0.1},
    "lambda_ci 10": {"stages.insensitive.lambda_ci": 10.0},
    "lambda_cs 0.1": {"stages.sensitive.lambda_cs": 0.1},
    "lambda_cs 10": {"stages.sensitive.lambda_cs": 10.0},
}
del _
