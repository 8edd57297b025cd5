r"""Freeze or fine-tune? The common part of the runs that `advise` compares.

VGG16 on 48 x 48 images. They are small enough to run every strategy on two cores, training
everything included: head only, the last block, the last two blocks, everything, and everything from
scratch, with the same network, data and budget.

    python launch.py advise --config=freeze_or_finetune --advise.examples=100,400 \
        --advise.backbone_lr_scale=0.03

On a folder: --dataset.name=folder --dataset.path=DIR, and --train.loss=cross_entropy for more than
two classes. --dataset.image_size=160 answers the question for the image size of
`cats_vs_dogs_vgg16`, at ten times the cost.

Measured (docs/results/freeze_or_finetune.md) with 400 images. After six epochs: last two blocks
0.762, everything 0.744, last block 0.725, head 0.689, from scratch 0.516. With as many FLOPs for
each as the last block takes: head 0.726, last block 0.725, last two blocks 0.630, everything 0.617.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="freeze_or_finetune",
    dataset=Dataset(name="cats_vs_dogs", image_size=48, batch_size=32, eval_batch_size=50),
    model=Model(name="vgg16", head="pooled", dropout_rate=0.2),
    transfer=Transfer(weights="imagenet"),
    optimizer=Optimizer(learning_rate=3e-3, schedule="cosine", warmup_epochs=1),
    train=Train(epochs=6, loss="binary_cross_entropy"),
)
