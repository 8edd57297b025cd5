"""The sections of an Experiment: every setting with its type, default, bounds and plain sentence.

Flags and the saved `config.json` follow from these fields. It has over 300 lines because every
setting stands here and nowhere else.
"""

import dataclasses
from typing import Any, Literal

from cnn_jax import patterns
from cnn_jax.settings import setting

# The data sets whose published files may lie in a folder that the user names.
PUBLISHED = ("mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100")
WITH_PATH = ("folder", "table", "npz", *PUBLISHED)
# Settings of a data set that belong to --dataset.name=table.
TABLE_SETTINGS = (
    "root",
    "image_column",
    "label_column",
    "label_columns",
    "split_column",
    "group_column",
)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Which images, how they are split, batched, scaled and augmented."""

    name: str = setting(
        "digits",
        "digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, cats_vs_dogs, folder, table, "
        "npz, or any other TFDS name",
    )
    path: str | None = setting(
        None,
        "the folder of images, the table or the .npz file, for --dataset.name=folder, table or "
        "npz; or the folder with the published files of mnist, fashion_mnist, kmnist, cifar10 or "
        "cifar100, which are then not downloaded",
        resumable=True,
    )
    root: str | None = setting(
        None, "where a table's paths begin; none: the folder of the table", resumable=True
    )
    image_column: str | None = setting(
        None, "the column of a table that names the image; none: path, image, filename or file"
    )
    label_column: str | None = setting(
        None, "the column that names the class; none: label, class, diagnosis or target"
    )
    label_columns: str | None = setting(
        None, "in place of it, columns of 0 and 1, one for each class: MEL,NV,BCC"
    )
    split_column: str | None = setting(
        None, "the column that says train, validation or test; none: split or fold, if there is one"
    )
    group_column: str | None = setting(
        None,
        "the column of what belongs together, all of it in one split; none: patient, patient_id, "
        "group or subject, if there is one",
    )
    group: str | None = setting(
        None,
        "the group of an image, as a regular expression that is looked for in its name; none: "
        "there are no groups, or a table's column says them",
    )
    data_dir: str | None = setting(
        None,
        "where prepared TFDS directories are, and new ones go; none: the cache and "
        "~/tensorflow_datasets, which is only read, or $TFDS_DATA_DIR and its folder cnn_jax",
        resumable=True,
    )
    image_size: int | None = setting(
        None,
        "images are resized to this height and width, in pixels; none: as stored",
        minimum=1,
        maximum=8192,
    )
    resize: Literal["squash", "crop", "pad", "pad_mean"] = setting(
        "squash",
        "what is done with an image of another aspect than image_size, or than the images of the "
        "run: squash: both sides are scaled; crop: the short side is, and the middle stays; pad: "
        "the long side is, with black beside it; pad_mean: with the image's mean colour",
    )
    crop_share: float = setting(
        1.0,
        "the share of the short side that --dataset.resize=crop keeps; 0.875: 224 of 256, as most "
        "published figures of ImageNet",
        above=0,
        maximum=1,
    )
    channels: Literal["auto", "1", "3"] = setting(
        "auto",
        "1: images become grey; 3: they become RGB; auto: of files 1 where all of them are grey "
        "and no pretrained weights are loaded, else 3; of other data as they are stored, but 3 "
        "with --transfer.weights=imagenet",
    )
    train_examples: int | None = setting(
        None, "train on this many examples only, class by class in proportion; none: all", minimum=1
    )
    validation_split: str | None = setting(
        None,
        "the split to validate on; none: 'validation' where there is one, else a part of 'train'",
    )
    validation_fraction: float = setting(
        0.1, "share of 'train' held out for validation where no split serves it", above=0, below=1
    )
    test_fraction: float = setting(
        0.1,
        "share of 'train' held out for testing where the data has only 'train'",
        minimum=0,
        below=1,
    )
    fold: str | None = setting(
        None,
        "cross-validation: 2/5 divides 'train' into five folds, validates on the second and trains "
        "on the others, the test images left out; none: validate on a split or a share",
    )
    calibration_fraction: float = setting(
        0.0,
        "share of 'train' held out for the command trust, whose promises need images that neither "
        "trained nor chose the network",
        minimum=0,
        below=1,
    )
    batch_size: int = setting(64, "examples in one training step, over all devices", minimum=1)
    eval_batch_size: int = setting(
        500, "examples in one evaluation step, over all devices", minimum=1, resumable=True
    )
    normalize: Literal["auto", "unit", "symmetric", "standardize", "caffe", "torch", "none"] = (
        setting(
            "auto",
            "auto: the scaling that belongs to --transfer.weights, else unit; unit: x/255; "
            "symmetric: x/127.5 - 1; standardize: (x - mean) / std per channel of 'train'; caffe: "
            "BGR less ImageNet's means; torch: ImageNet's mean and std; none: pixels as they are",
        )
    )
    flip: bool = setting(False, "mirror each training image left to right with probability 1/2")
    alternate_flip: bool = setting(
        False,
        "mirror each training image in every other epoch, rather than by chance; which of them in "
        "the first is drawn once",
    )
    crop_padding: int = setting(
        0, "pad training images by this number of reflected pixels, then crop at random", minimum=0
    )
    cutout: int = setting(
        0, "blank a random square of this side, in pixels, in training images", minimum=0
    )
    random_crop: float | None = setting(
        None,
        "cut out a random part of each training image, of at least this share of its area, and "
        "stretch it to the whole size; none: no",
        above=0,
        below=1,
    )
    zoom: float = setting(
        0.0, "magnify training images by a random factor of 1 - x to 1 + x", minimum=0, below=1
    )
    shear: float = setting(
        0.0, "shear training images by up to so many degrees", minimum=0, maximum=75
    )
    rotation: float = setting(
        0.0, "rotate training images by up to so many degrees", minimum=0, maximum=180
    )
    translation: float = setting(
        0.0,
        "move training images by up to this share of their sides, in both directions",
        minimum=0,
        maximum=1,
    )
    brightness: float = setting(
        0.0, "multiply training images by a random factor of 1 - x to 1 + x", minimum=0, maximum=10
    )
    contrast: float = setting(0.0, "the same for their contrast", minimum=0, maximum=10)
    saturation: float = setting(0.0, "the same for their colours", minimum=0, maximum=10)
    hue: float = setting(
        0.0, "turn their colours by up to this share of a whole turn", minimum=0, maximum=0.5
    )
    trivial_augment: bool = setting(
        False,
        "change each training image in one of 14 ways by a random strength: TrivialAugment, wide",
    )
    random_erasing: float = setting(
        0.0, "blank a random rectangle of this share of the training images", minimum=0, maximum=1
    )
    mixup: float = setting(
        0.0,
        "mix each training image and its label with another one's, by weights from Beta(x, x)",
        minimum=0,
        maximum=100,
    )
    cutmix: float = setting(
        0.0,
        "paste a rectangle of another one into each training image, and mix the labels by area, "
        "from Beta(x, x); with mixup, one of both by chance",
        minimum=0,
        maximum=100,
    )
    on_error: Literal["refuse", "skip"] = setting(
        "refuse",
        "what to do with an image that cannot be read, or that is in two class folders: stop and "
        "name it, or go on: without the one, with both of the other",
        resumable=True,
    )
    label: str | None = setting(
        None,
        "a regular expression whose first group is the class in the name of a file, such as "
        r"'^(cat|dog)\.', for a folder without class folders; none: the folders are the classes",
    )
    follow_links: bool = setting(
        True, "whether links may lead out of the folder of images", resumable=True
    )
    streaming: Literal["auto", "true", "false"] = setting(
        "auto",
        "true: training images of a folder, a table or TFDS are decoded while they are trained on, "
        "by processes of their own, and random_crop cuts parts out of them as they are stored; "
        "false: all are decoded to the disk beforehand; auto: streamed where decoded images exceed "
        "the memory or the free disk",
    )
    workers: int | None = setting(
        None,
        "processes that decode streamed training images; none: one for each core; 0: threads",
        minimum=0,
        maximum=512,
        resumable=True,
    )
    verify: Literal["full", "quick"] = setting(
        "full",
        "how decoded images in the cache are checked at each start: full: all are read; quick: "
        "size, time and a sample of them, in no time, for data sets of many gigabytes",
        resumable=True,
    )
    max_megapixels: int = setting(
        100,
        "images are refused of which more than this many million pixels would be decoded; of large "
        "JPEGs these are fewer than they have",
        minimum=1,
        maximum=4_000,
        resumable=True,
    )
    bit_depth: Literal["auto", "8", "10", "12", "14", "16"] = setting(
        "auto",
        "how many bits the values of 16-bit images in a folder use; auto: the fewest that hold the "
        "largest value of all of them",
        before="16",
    )
    positive: str | None = setting(
        None,
        "of two classes the one that sensitivity and specificity are about; none: the second, "
        "whose logit is the one of --train.loss=binary_cross_entropy",
        resumable=True,
    )
    ordered: bool = setting(
        False,
        "the classes are grades, in the order of their names: a kappa weighs how far off a wrong "
        "one is",
        resumable=True,
    )
    resident_limit: float = setting(
        2.0,
        "data of up to this size in GiB is kept on the devices, larger data is streamed from disk",
        minimum=0,
        resumable=True,
    )

    @property
    def mirrors(self) -> bool:
        """Whether training images are mirrored."""
        return self.flip or self.alternate_flip

    @property
    def mixes(self) -> bool:
        """Whether training images and their labels are mixed."""
        return bool(self.mixup or self.cutmix)

    @property
    def augments(self) -> bool:
        """Whether training images differ from epoch to epoch."""
        moved = self.crop_padding or self.zoom or self.shear or self.rotation or self.translation
        coloured = self.brightness or self.contrast or self.saturation or self.hue
        blanked = self.cutout or self.random_erasing
        other = self.trivial_augment or self.random_crop is not None or self.mirrors or self.mixes
        return bool(moved or coloured or blanked or other)


@dataclasses.dataclass(frozen=True)
class Model:
    """Which network."""

    name: str = setting("lenet5", "a registered model")
    head: Literal["default", "pooled", "pooled_dense128"] = setting(
        "default",
        "default: the model's own; pooled: global average pooling, dropout, logits; "
        "pooled_dense128: the same with a Dense of 128 before the logits",
    )
    dropout_rate: float | None = setting(
        None,
        "share of units dropped where the model has dropout; none: its own",
        minimum=0,
        below=1,
    )
    bottleneck_stride: Literal["3x3", "1x1"] | None = setting(
        None,
        "the convolution of a ResNet's bottleneck that has the stride; none: what the weights "
        "were trained with, else 3x3 (v1.5)",
    )
    padding: Literal["symmetric", "same"] | None = setting(
        None,
        "how EfficientNet and MobileNetV3 pad where they have a stride: as PyTorch does, or as "
        "TensorFlow; none: what the weights were trained with, else symmetric",
    )
    auxiliary: bool | None = setting(
        None,
        "GoogLeNet's auxiliary classifiers in training; none: on, unless --model.head is given",
    )
    local_response_norm: bool | None = setting(
        None, "AlexNet's normalisation across channels; none: off"
    )
    width: float | None = setting(
        None, "airbench's filters, as a multiple of its own; none: 1", above=0, maximum=100
    )

    def options(self) -> dict[str, Any]:
        """Returns all but name and head, as `models.create` takes them."""
        values = dataclasses.asdict(self)
        return {name: v for name, v in values.items() if name not in ("name", "head")}


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Which pretrained weights to start from, and which parameters stay as they are."""

    weights: str | None = setting(
        None,
        "imagenet; hf://OWNER/NAME on the Hugging Face hub; or the path of a Keras file (HDF5 or "
        ".keras), of a safetensors file with torchvision's or timm's names, of a folder with one "
        "and its config.json, or of a run directory; none: random initialisation",
    )
    include: str | None = setting(
        None,
        "load the parameters whose path matches this pattern only; none: the backbone, or all of a "
        "model of your own in one part",
    )
    freeze: str = setting(
        "none",
        "none, backbone, or a pattern of paths that stay as they are, such as block[1-4]",
    )
    unfreeze: str | None = setting(
        None, "EPOCH:PATTERN,... sets parameters free from an epoch on, such as 3:block5,6:block4"
    )
    lr_scale: str | None = setting(
        None, "PATTERN:FACTOR,... scales the learning rate, such as block5:0.1,block4:0.01"
    )
    cache_features: bool = setting(
        True, "compute the features of stages that stay frozen once, where nothing augments them"
    )
    cache_views: int = setting(
        0,
        "with augmentation, cache this number of views of each image and cycle",
        minimum=0,
        maximum=10_000,
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How parameters follow the gradient."""

    name: Literal["adam", "adamw", "sgd", "muon", "own"] = setting(
        "adam",
        "sgd has Nesterov momentum; muon: nearly orthogonal updates of convolution kernels, whose "
        "norm it keeps, and sgd for all else; own: one given in Python",
    )
    learning_rate: float = setting(1e-3, "the peak learning rate", above=0)
    momentum: float = setting(0.9, "of sgd, also beside muon, whose own is 0.6", minimum=0, below=1)
    weight_decay: float = setting(
        0.0,
        "decay of kernels: decoupled for adamw, added to the gradient for sgd; for muon of all but "
        "its kernels, and the same whatever --transfer.lr_scale says",
        minimum=0,
    )
    schedule: Literal["constant", "cosine", "triangular", "step"] = setting(
        "constant",
        "learning rate over the run: constant, cosine to 0, linear up then linear to 0, or a tenth "
        "of it from each of the milestones on",
    )
    milestones: str | None = setting(
        None, "shares of the run at which 'step' falls, such as 0.5,0.75; none: 0.5,0.75"
    )
    warmup_epochs: float = setting(
        0.0, "epochs of linear warm-up (the rising side of 'triangular')", minimum=0
    )
    clip_norm: float | None = setting(
        None, "gradients of a larger global norm are scaled down to it; none: no clipping", above=0
    )
    ema_decay: float | None = setting(
        None,
        "evaluate an exponential moving average of the parameters, and of the statistics of batch "
        "normalisation, of this decay a step; none: no",
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

    epochs: int = setting(5, "passes over the training split", minimum=1, maximum=1_000_000)
    loss: str = setting(
        "cross_entropy",
        "cross_entropy, binary_cross_entropy (two classes, one logit), focal (examples classified "
        "well count less), multilabel (several findings in one image, or none: a sigmoid for "
        "each), or the name of a registered loss; all from logits",
    )
    focal_gamma: float | None = setting(
        None,
        "of --train.loss=focal: how much less examples count that are classified well; none: 2",
        minimum=0,
        maximum=20,
    )
    class_weights: str = setting(
        "none",
        "weights of the loss by class: none; balanced: images / (classes * images of the class); "
        "or NAME:W,..., where classes that are not named have 1. They are scaled so that their "
        "mean over the training images is 1; curves and validation show the loss without them",
    )
    sampling: Literal["natural", "balanced"] = setting(
        "natural",
        "natural: an epoch takes every training image once; balanced: an epoch of as many steps "
        "draws equally many of each class, and repeats those of small ones",
    )
    select: Literal["accuracy", "loss", "balanced_accuracy", "auc", "macro_f1", "kappa"] = setting(
        "accuracy",
        "the metric on the validation images by which the best checkpoint, sweeps, advise and "
        "compare choose; auc: the mean over the classes, each against the rest; kappa: quadratic "
        "with --dataset.ordered, else Cohen's",
    )
    patience: int | None = setting(
        None,
        "stop after this number of epochs without a better --train.select; none: train all epochs",
        minimum=1,
    )
    label_smoothing: float = setting(
        0.0, "share of the target spread evenly over all classes", minimum=0, below=1
    )
    precision: Literal["float32", "bfloat16"] = setting(
        "float32", "of activations and gradients; parameters are float32 always"
    )


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """When the state is saved, and what is kept."""

    every_steps: int | None = setting(
        None,
        "steps between saves within an epoch; none: save after every epoch only",
        minimum=1,
        resumable=True,
    )
    keep: int = setting(
        2, "the newest checkpoints kept, besides the best by validation", minimum=1, resumable=True
    )


@dataclasses.dataclass(frozen=True)
class Logging:
    """What is written while training."""

    every_steps: int | None = setting(
        None, "steps between points of the training curves; none: 20 points an epoch", minimum=1
    )
    figures_every: int | None = setting(
        1,
        "epochs between figures (predictions, confusion, filters) in TensorBoard, which take about "
        "half a second beside the training; none: no figures",
        minimum=1,
        resumable=True,
    )
    projector_images: int = setting(
        1000,
        "validation images whose features TensorBoard's PROJECTOR shows at the end; 0: none",
        minimum=0,
        maximum=10_000,
        resumable=True,
    )


# The settings that say which images there are, with which labels and groups.
IMAGES = (
    "dataset.name",
    "dataset.path",
    "dataset.root",
    "dataset.image_column",
    "dataset.label",
    "dataset.label_column",
    "dataset.label_columns",
    "dataset.split_column",
    "dataset.group",
    "dataset.group_column",
)
