"""Which settings exclude each other, and which need another one."""

from typing import Any

from cnn_jax import patterns
from cnn_jax.errors import UsageError
from cnn_jax.sections import TABLE_SETTINGS, WITH_PATH


def check(e: Any) -> None:
    """Refuses settings of an Experiment that are legal alone and not together.

    Raises:
        UsageError: two settings exclude each other.
    """
    d, o, t, x = e.dataset, e.optimizer, e.train, e.transfer
    unfreeze = patterns.parse_unfreeze(x.unfreeze)
    patterns.parse_lr_scale(x.lr_scale)
    patterns.matches(x.freeze, "")
    patterns.parse_shares(o.milestones)
    patterns.parse_class_weights(t.class_weights)
    if d.fold is not None:
        patterns.parse_fold(d.fold)
    wrong = [
        (
            d.name not in WITH_PATH and d.path is not None,
            f"--dataset.path belongs to --dataset.name={', '.join(WITH_PATH)}, not to {d.name!r}",
        ),
        *(
            (
                d.name != "table" and getattr(d, name) is not None,
                f"--dataset.{name} belongs to --dataset.name=table, not to {d.name!r}",
            )
            for name in TABLE_SETTINGS
        ),
        (
            d.label_column is not None and d.label_columns is not None,
            "--dataset.label_column and --dataset.label_columns exclude each other: give one",
        ),
        (
            d.crop_share < 1 and d.resize != "crop",
            f"--dataset.crop_share={d.crop_share:g} needs --dataset.resize=crop",
        ),
        (
            d.name != "folder" and d.label is not None,
            f"--dataset.label belongs to --dataset.name=folder, not to {d.name!r}",
        ),
        (
            d.validation_fraction + d.test_fraction >= 1,
            "--dataset.validation_fraction and --dataset.test_fraction leave nothing to train on",
        ),
        (
            d.fold is not None and d.validation_split is not None,
            f"--dataset.fold={d.fold} validates on a fold of 'train'; leave "
            "--dataset.validation_split out",
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
            t.loss != "cross_entropy" and t.label_smoothing > 0,
            "--train.label_smoothing is defined for --train.loss=cross_entropy only",
        ),
        (
            t.loss != "focal" and t.focal_gamma is not None,
            "--train.focal_gamma needs --train.loss=focal",
        ),
        (
            t.sampling == "balanced" and t.class_weights != "none",
            "--train.sampling=balanced and --train.class_weights make up for the same imbalance "
            "twice: give one of them",
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
            "--transfer.cache_views needs augmentation, such as --dataset.flip or rotation",
        ),
        (
            x.cache_views > 0 and d.mixes,
            "--transfer.cache_views keeps features of images: --dataset.mixup and --dataset.cutmix "
            "mix images of every batch anew; use one or the other",
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
