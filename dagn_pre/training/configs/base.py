# Every key there is, with its default; docs/training.md explains them. A stage's config inherits from here.
name = "model"  # the weights file's name
stage = "dagn"  # insensitive (1a), sensitive (1b) or dagn (2); peer for the other architectures, side for side information,
# semantic to train a restorer on under frozen networks' features
architecture = "dagn"  # dagn, or for stage peer arcnn, dmcnn, qgac, fbcnn
network = dict()  # of the architecture's configuration; DAGN's has the ablation's switches (insensitive, sensitive, fusion) too

data = [
    "{{$DAGN_PRE_DATA:data}}/restoration/BSDS500-train",
    "{{$DAGN_PRE_DATA:data}}/restoration/T91",
    "{{$DAGN_PRE_DATA:data}}/restoration/Urban100",
    "{{$DAGN_PRE_DATA:data}}/restoration/McMaster",
]
validation = "{{$DAGN_PRE_DATA:data}}/restoration/BSDS500-val"
validation_images = 10
validation_size = 256
validation_qualities = [10, 20, 30, 40]

qualities = "restoration"
p_444 = 0.0
p_422 = 0.0
p_second = 0.0
p_resized = 0.0
aligned = False
turns = True
patch = 64
batch = 8
workers = 1
seed = 0

steps = 1000
minutes = None
patience = None
lr = 1e-3
warmup = 200
clip = 1.0
ema_decay = None
lambda_ci = 1.0  # Fig. 13: the best of the paper's sweep
lambda_cs = 1.0
lambda_blocking = 0.0
vector_images = 64
settle_steps = 3000
end_to_end = False
insensitive_from = None
sensitive_from = None
load_from = None
trunk = None  # the restorer that stage side conditions and stage semantic starts from, a name or a weights file
train_trunk = False
relative = False
lambda_rate = 1.0
sigma = 1.0
rate_warmup = 0
usage = 0.0
teachers = dict()  # of stage semantic
lambda_pixels = 1.0
power = 2
by_channel = False
per_step = None
judges = []
frozen = ["network.encoder_ci", "network.encoder_cs", "quality"]

amp = None
channels_last = True
compile = False

log_every = 50
validate_every = 1000
save_every = 500
keep = 2
tensorboard = True
