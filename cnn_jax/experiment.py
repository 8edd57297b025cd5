"""The Experiment: every setting of a run, typed and validated, and the only place of its default.

Flags (`flags.py`) and the saved `config.json` are made from these fields. A field's metadata holds
its help text, the legal choices or range, and whether it may change when a run is resumed.
"""

import dataclasses
import hashlib
import json
import types
import typing
from typing import Any, Literal

from cnn_jax import patterns
from cnn_jax.errors import UsageError


def _field(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    resumable: bool = False,
) -> Any:
    """Returns a dataclass field.

    Args:
        default: the value when neither preset nor flag says otherwise.
        help: one sentence for `--help`, with the unit where there is one.
        minimum: smallest legal value.
        maximum: largest legal value.
        above: legal values are larger than this.
        below: legal values are smaller than this.
        resumable: True where a started run may be resumed with another value, because the value
            does not change what is computed.
    """
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    metadata = {"help": help, "resumable": resumable, **bounds}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Which images, how they are split, batched, scaled and augmented."""

    name: str = _field("digits", "digits, cifar10, cats_vs_dogs, folder, or any other TFDS name")
    path: str | None = _field(
        None, "the folder of images, for --dataset.name=folder", resumable=True
    )
    data_dir: str | None = _field(
        None,
        "where prepared TFDS directories are; none: $TFDS_DATA_DIR, else ~/tensorflow_datasets",
        resumable=True,
    )
    image_size: int | None = _field(
        None, "images are resized to this height and width, in pixels; none: as stored", minimum=1
    )
    train_examples: int | None = _field(
        None, "train on this many examples only, class by class in proportion; none: all", minimum=1
    )
    validation_split: str | None = _field(
        None,
        "the split to validate on; none: 'validation' where there is one, else a part of 'train'",
    )
    validation_fraction: float = _field(
        0.1, "share of 'train' held out for validation where no split serves it", above=0, below=1
    )
    test_fraction: float = _field(
        0.1,
        "share of 'train' held out for testing where the data has only 'train'",
        minimum=0,
        below=1,
    )
    batch_size: int = _field(64, "examples in one training step, over all devices", minimum=1)
    eval_batch_size: int = _field(
        500, "examples in one evaluation step, over all devices", minimum=1, resumable=True
    )
    normalize: Literal["auto", "unit", "symmetric", "standardize", "caffe", "torch"] = _field(
        "auto",
        "auto: what belongs to --transfer.weights, else unit; unit: x/255; symmetric: x/127.5 - 1; "
        "standardize: (x - mean) / std per channel of 'train'; caffe: BGR less ImageNet's means; "
        "torch: ImageNet's mean and std",
    )
    flip: bool = _field(False, "mirror each training image left to right with probability 1/2")
    alternate_flip: bool = _field(
        False,
        "mirror each training image in every other epoch, rather than by chance; which of them in "
        "the first is drawn once",
    )
    crop_padding: int = _field(
        0, "pad training images by so many reflected pixels, then crop at random", minimum=0
    )
    cutout: int = _field(
        0, "blank a random square of this side, in pixels, in training images", minimum=0
    )
    on_error: Literal["refuse", "skip"] = _field(
        "refuse", "what to do with an image that cannot be read: stop and name it, or skip it"
    )
    resident_limit: float = _field(
        2.0,
        "data of up to so many GiB is kept on the devices, larger data is streamed from disk",
        minimum=0,
        resumable=True,
    )

    @property
    def augments(self) -> bool:
        """Whether training images differ from epoch to epoch."""
        return bool(self.flip or self.alternate_flip or self.crop_padding or self.cutout)


@dataclasses.dataclass(frozen=True)
class Model:
    """Which network."""

    name: str = _field("lenet5", "a registered model")
    head: Literal["default", "pooled", "pooled_dense128"] = _field(
        "default",
        "default: the model's own; pooled: global average pooling, dropout, logits; "
        "pooled_dense128: the same with a Dense of 128 before the logits",
    )
    dropout_rate: float | None = _field(
        None,
        "share of units dropped where the model has dropout; none: its own",
        minimum=0,
        below=1,
    )
    bottleneck_stride: Literal["3x3", "1x1"] | None = _field(
        None,
        "the convolution of a ResNet's bottleneck that has the stride; none: what the weights "
        "were trained with, else 3x3 (v1.5)",
    )
    auxiliary: bool | None = _field(
        None,
        "GoogLeNet's auxiliary classifiers in training; none: on, unless --model.head is given",
    )
    local_response_norm: bool | None = _field(
        None, "AlexNet's normalisation across channels; none: off"
    )
    width: float | None = _field(
        None, "airbench's filters, as a multiple of its own; none: 1", above=0
    )

    def options(self) -> dict[str, Any]:
        """Returns all but name and head, as `models.create` takes them."""
        values = dataclasses.asdict(self)
        return {name: v for name, v in values.items() if name not in ("name", "head")}


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Which pretrained weights to start from, and which parameters stay as they are."""

    weights: str | None = _field(
        None,
        "imagenet, or the path of a Keras HDF5 file, of a safetensors file with torchvision's "
        "names, or of a run directory; none: random initialisation",
    )
    include: str | None = _field(
        None, "load the parameters whose path matches this pattern only; none: the backbone"
    )
    freeze: str = _field(
        "none",
        "none, backbone, or a pattern of paths that stay as they are, such as block[1-4]",
    )
    unfreeze: str | None = _field(
        None, "EPOCH:PATTERN,... sets parameters free from an epoch on, such as 3:block5,6:block4"
    )
    lr_scale: str | None = _field(
        None, "PATTERN:FACTOR,... scales the learning rate, such as block5:0.1,block4:0.01"
    )
    cache_features: bool = _field(
        True, "compute the features of stages that stay frozen once, where nothing augments them"
    )
    cache_views: int = _field(
        0, "with augmentation, cache so many augmented views of each image and cycle", minimum=0
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How parameters follow the gradient."""

    name: Literal["adam", "adamw", "sgd", "muon"] = _field(
        "adam",
        "sgd has Nesterov momentum; muon: nearly orthogonal updates of convolution kernels, whose "
        "norm it keeps, and sgd for all else",
    )
    learning_rate: float = _field(1e-3, "the peak learning rate", above=0)
    momentum: float = _field(0.9, "of sgd, also beside muon, whose own is 0.6", minimum=0, below=1)
    weight_decay: float = _field(
        0.0,
        "decay of kernels: decoupled for adamw, added to the gradient for sgd; for muon of all but "
        "its kernels, and the same whatever --transfer.lr_scale says",
        minimum=0,
    )
    schedule: Literal["constant", "cosine", "triangular", "step"] = _field(
        "constant",
        "learning rate over the run: constant, cosine to 0, linear up then linear to 0, or a tenth "
        "of it from each of the milestones on",
    )
    milestones: str | None = _field(
        None, "shares of the run at which 'step' falls, such as 0.5,0.75; none: 0.5,0.75"
    )
    warmup_epochs: float = _field(
        0.0, "epochs of linear warm-up (the rising side of 'triangular')", minimum=0
    )
    clip_norm: float | None = _field(
        None, "gradients of a larger global norm are scaled down to it; none: no clipping", above=0
    )
    ema_decay: float | None = _field(
        None,
        "evaluate an exponential moving average of the parameters, of this decay a step; none: no",
        above=0,
        below=1,
    )

    @property
    def milestone_shares(self) -> tuple[float, ...]:
        """The milestones as shares of the run, ascending; none for other schedules."""
        if self.schedule != "step":
            return ()
        return (0.5, 0.75) if self.milestones is None else patterns.parse_shares(self.milestones)


@dataclasses.dataclass(frozen=True)
class Train:
    """How long, with which loss, in which precision."""

    epochs: int = _field(5, "passes over the training split", minimum=1)
    loss: Literal["cross_entropy", "binary_cross_entropy"] = _field(
        "cross_entropy", "from logits; binary_cross_entropy: two classes, one logit"
    )
    label_smoothing: float = _field(
        0.0, "share of the target spread evenly over all classes", minimum=0, below=1
    )
    precision: Literal["float32", "bfloat16"] = _field(
        "float32", "of activations and gradients; parameters are float32 always"
    )


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """When the state is saved, and what is kept."""

    every_steps: int | None = _field(
        None,
        "save also after so many steps; none: after every epoch only",
        minimum=1,
        resumable=True,
    )
    keep: int = _field(
        2, "the newest checkpoints kept, besides the best by validation", minimum=1, resumable=True
    )


@dataclasses.dataclass(frozen=True)
class Logging:
    """What is written while training."""

    every_steps: int | None = _field(
        None, "steps between points of the training curves; none: 20 points an epoch", minimum=1
    )
    figures_every: int | None = _field(
        1,
        "epochs between figures (predictions, confusion, filters) in TensorBoard, which take about "
        "a second; none: no figures",
        minimum=1,
        resumable=True,
    )
    projector_images: int = _field(
        1000,
        "validation images whose features TensorBoard's PROJECTOR shows at the end; 0: none",
        minimum=0,
        maximum=10_000,
        resumable=True,
    )


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A whole run, but for where it is written.

    Raises:
        UsageError: a value is outside its range or choices, or two settings exclude each other.
    """

    name: str = _field("experiment", "what to call it; a preset's is its file's")
    seed: int = _field(0, "of parameters, batch order, augmentation and dropout", minimum=0)
    dataset: Dataset = dataclasses.field(default_factory=Dataset)
    model: Model = dataclasses.field(default_factory=Model)
    transfer: Transfer = dataclasses.field(default_factory=Transfer)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    train: Train = dataclasses.field(default_factory=Train)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
    logging: Logging = dataclasses.field(default_factory=Logging)

    def __post_init__(self) -> None:
        for path, field in fields(Experiment):
            check_value(path, field, get(self, path))
        _check_combinations(self)


VIEWS = ("one", "mirror", "mirror_translate")
STRATEGIES = ("head", "last_block", "last_two_blocks", "everything", "scratch")


@dataclasses.dataclass(frozen=True)
class Advise:
    """What the command `advise` compares; no part of an Experiment.

    Raises:
        UsageError: a value is outside its range, or not of its form.
    """

    strategies: str = _field(
        "all", "some of " + ", ".join(STRATEGIES) + ", joined by commas; or all"
    )
    examples: str = _field("100,500,all", "sizes of the training set, all for the whole of it")
    seeds: int = _field(
        3, "runs of every strategy at every size, each with a seed of its own", minimum=1
    )
    budget: Literal["epochs,flops", "epochs", "flops"] = _field(
        "epochs,flops",
        "what the strategies have in equal measure: the preset's epochs; FLOPs, those of training "
        "the last block for the preset's epochs",
    )
    backbone_lr_scale: float = _field(
        0.1,
        "learning rate of the backbone where it is trained, as a share of the head's",
        above=0,
    )

    def __post_init__(self) -> None:
        for path, field in fields(Advise, "advise."):
            check_value(path, field, getattr(self, field.name))
        unknown = [name for name in self.chosen if name not in STRATEGIES]
        if unknown or len(set(self.chosen)) < len(self.chosen):
            raise UsageError(
                f"--advise.strategies takes some of {','.join(STRATEGIES)}, each once, "
                f"not {self.strategies!r}"
            )
        for size in self.examples.split(","):
            if size != "all" and not (size.isdecimal() and int(size) > 0):
                raise UsageError(
                    "--advise.examples takes numbers of training images and all, such as "
                    f"100,500,all, not {self.examples!r}"
                )

    @property
    def chosen(self) -> list[str]:
        """The strategies, in the order given."""
        return list(STRATEGIES) if self.strategies == "all" else self.strategies.split(",")

    def sizes(self, whole: int) -> list[int]:
        """Returns the sizes, ascending and each once, of a training set of so many images."""
        return sorted({whole if n == "all" else int(n) for n in self.examples.split(",")})

    @property
    def budgets(self) -> list[str]:
        """The budgets, in the order given."""
        return list(map(str, self.budget.split(",")))


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What the command `sweep` varies, and how; no part of an Experiment.

    Raises:
        UsageError: a value is outside its range, or not of its form.
    """

    space: str | None = _field(
        None,
        "settings and what they range over, such as 'optimizer.learning_rate=log(1e-4,1e-1) "
        "model.name=[study_cnn,lenet5]'; also uniform(LOW,HIGH) and int(LOW,HIGH); a third number "
        "is the points of a grid",
    )
    method: Literal["grid", "random", "tpe"] = _field(
        "random", "tpe: Bayesian, by a tree of Parzen estimators"
    )
    trials: int = _field(20, "settings to try with random and tpe", minimum=1, resumable=True)
    seeds: int = _field(1, "runs of each setting, ranked by their mean", minimum=1)
    prune: Literal["none", "median", "asha"] = _field(
        "none",
        "stop a setting early, judged by validation accuracy after each epoch of its first seed: "
        "below the median; or not in the best third at epochs 1, 3, 9, ... (successive halving)",
    )
    parallel: int = _field(
        1, "workers: with local this process is one of them", minimum=1, resumable=True
    )
    vectorize: int = _field(
        1,
        "settings that a worker trains in one program, where they differ in learning rate, weight "
        "decay, label smoothing, dropout rate or seed alone",
        minimum=1,
        resumable=True,
    )
    storage: str | None = _field(
        None, "an Optuna storage address; none: a journal file in the sweep's directory"
    )
    launcher: Literal["local", "slurm", "ray"] = _field(
        "local",
        "who starts the --sweep.parallel workers; slurm needs submitit, ray needs Ray",
        resumable=True,
    )
    resources: str | None = _field(
        None,
        "what each worker gets from Slurm, in submitit's words, such as slurm_partition=gpu,"
        "gpus_per_node=1,timeout_min=240, or from Ray, such as num_gpus=1",
        resumable=True,
    )

    def __post_init__(self) -> None:
        for path, field in fields(Sweep, "sweep."):
            check_value(path, field, getattr(self, field.name))
        if self.resources is not None and self.launcher == "local":
            raise UsageError(
                "--sweep.resources has no effect on this machine's own processes; leave it out or "
                "give --sweep.launcher=slurm or ray"
            )
        if self.vectorize > 1 and self.prune != "none":
            raise UsageError(
                f"--sweep.vectorize={self.vectorize} trains settings in step, so none can stop "
                f"early; leave out --sweep.prune={self.prune} or --sweep.vectorize"
            )


def _check_combinations(e: Experiment) -> None:
    """Refuses settings that are legal alone and not together."""
    d, o, t, x = e.dataset, e.optimizer, e.train, e.transfer
    unfreeze = patterns.parse_unfreeze(x.unfreeze)
    patterns.parse_lr_scale(x.lr_scale)
    patterns.matches(x.freeze, "")
    patterns.parse_shares(o.milestones)
    wrong = [
        (
            d.name != "folder" and d.path is not None,
            f"--dataset.path belongs to --dataset.name=folder, not to {d.name!r}",
        ),
        (
            d.validation_fraction + d.test_fraction >= 1,
            "--dataset.validation_fraction and --dataset.test_fraction leave nothing to train on",
        ),
        (
            d.validation_split == "train",
            "--dataset.validation_split=train would validate on the images trained on; "
            "leave it out to hold out a part of 'train'",
        ),
        (
            o.warmup_epochs >= t.epochs,
            f"--optimizer.warmup_epochs={o.warmup_epochs:g} must be less than "
            f"--train.epochs={t.epochs}",
        ),
        (
            o.name == "adam" and o.weight_decay > 0,
            "--optimizer.weight_decay has no effect with adam; use --optimizer.name=adamw",
        ),
        (
            o.schedule == "constant" and o.warmup_epochs > 0,
            "--optimizer.warmup_epochs needs --optimizer.schedule=cosine, triangular or step",
        ),
        (
            o.schedule != "step" and o.milestones is not None,
            "--optimizer.milestones needs --optimizer.schedule=step",
        ),
        (
            t.loss == "binary_cross_entropy" and t.label_smoothing > 0,
            "--train.label_smoothing is defined for --train.loss=cross_entropy only",
        ),
        (
            x.include is not None and x.weights is None,
            "--transfer.include needs --transfer.weights",
        ),
        (
            bool(unfreeze) and x.freeze == "none",
            "--transfer.unfreeze needs --transfer.freeze=backbone or a pattern",
        ),
        (
            bool(unfreeze) and unfreeze[-1][0] > t.epochs,
            f"--transfer.unfreeze={x.unfreeze} goes beyond --train.epochs={t.epochs}",
        ),
        (
            d.flip and d.alternate_flip,
            "--dataset.flip and --dataset.alternate_flip are two ways to mirror: give one of them",
        ),
        (
            x.cache_views > 0 and not d.augments,
            "--transfer.cache_views needs augmentation (--dataset.flip, crop_padding or cutout)",
        ),
        (
            x.cache_views > 0 and d.alternate_flip,
            "--transfer.cache_views mirrors by chance: use --dataset.flip, not alternate_flip",
        ),
        (
            x.cache_views > 0 and (x.freeze == "none" or not x.cache_features),
            "--transfer.cache_views needs --transfer.freeze and --transfer.cache_features",
        ),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise UsageError(message)


def fields(cls: type = Experiment, prefix: str = "") -> list[tuple[str, dataclasses.Field]]:
    """Returns every leaf field as (dotted path, field), in the order of definition."""
    leaves = []
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            leaves += fields(typing.cast(type, field.type), f"{prefix}{field.name}.")
        else:
            leaves.append((prefix + field.name, field))
    return leaves


def get(experiment: Any, path: str) -> Any:
    """Returns the value at a dotted path."""
    for name in path.split("."):
        experiment = getattr(experiment, name)
    return experiment


def replace(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    """Returns the experiment with the values at dotted paths replaced, and validated anew."""
    top: dict[str, Any] = {}
    for path, value in changes.items():
        section, _, name = path.rpartition(".")
        if section:
            top[section] = dataclasses.replace(
                top.get(section, getattr(experiment, section)), **{name: value}
            )
        else:
            top[name] = value
    return dataclasses.replace(experiment, **top)


def field_type(field: dataclasses.Field) -> tuple[type, bool, tuple[str, ...]]:
    """Returns (scalar type, whether None is legal, the choices or ()) of a leaf field."""
    kind: Any = field.type
    optional = typing.get_origin(kind) in (types.UnionType, typing.Union)
    if optional:
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if typing.get_origin(kind) is Literal:
        return str, optional, typing.get_args(kind)
    return kind, optional, ()


def check_value(path: str, field: dataclasses.Field, value: Any) -> None:
    """Raises UsageError, naming the flag, where a value is not legal for its field."""
    kind, optional, choices = field_type(field)
    if value is None and optional:
        return
    legal = kind if kind is not float else (float, int)
    if not isinstance(value, legal) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"--{path} takes {kind.__name__}, not {value!r}")
    if choices and value not in choices:
        raise UsageError(f"--{path} is one of {', '.join(choices)}, not {value!r}")
    m = field.metadata
    tests = [
        ("minimum", lambda bound: value >= bound, "at least"),
        ("maximum", lambda bound: value <= bound, "at most"),
        ("above", lambda bound: value > bound, "more than"),
        ("below", lambda bound: value < bound, "less than"),
    ]
    for key, holds, words in tests:
        if m.get(key) is not None and not holds(m[key]):
            raise UsageError(f"--{path} must be {words} {m[key]:g}, not {value!r}")


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Returns nested plain dicts, ready for JSON."""
    return dataclasses.asdict(experiment)


def from_dict(values: dict[str, Any]) -> Experiment:
    """Returns the experiment of `to_dict`.

    Raises:
        UsageError: a key is unknown or a value is not legal; a missing key takes its default.
    """
    return _build(Experiment, values, "")


def _build(cls: Any, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise UsageError(f"{prefix.rstrip('.') or 'the configuration'} must hold named values")
    known = {field.name: field for field in dataclasses.fields(cls)}
    for name in values:
        if name not in known:
            raise UsageError(f"the configuration has an unknown setting {prefix}{name}")
    return cls(
        **{
            name: _build(known[name].type, value, f"{prefix}{name}.")
            if dataclasses.is_dataclass(known[name].type)
            else value
            for name, value in values.items()
        }
    )


def setting_name(config: Experiment) -> str:
    """Returns a name that runs share where nothing but their seed and their name differs."""
    ignored = {path for path, field in fields() if field.metadata["resumable"]} | {"name", "seed"}
    settings = {path: value for path, value in flatten(config).items() if path not in ignored}
    text = json.dumps(settings, sort_keys=True)
    return f"{config.name} {hashlib.sha256(text.encode()).hexdigest()[:6]}"


def to_json(experiment: Experiment) -> str:
    """Returns the experiment as indented JSON."""
    return json.dumps(to_dict(experiment), indent=2) + "\n"


def flatten(experiment: Experiment) -> dict[str, Any]:
    """Returns {dotted path: value} of every leaf field."""
    return {path: get(experiment, path) for path, _ in fields()}


def difference(old: Experiment, new: Experiment) -> dict[str, tuple[Any, Any]]:
    """Returns {dotted path: (old value, new value)} of the leaf fields that differ."""
    a, b = flatten(old), flatten(new)
    return {path: (a[path], b[path]) for path in a if a[path] != b[path]}
