"""How little computation does 94 % on CIFAR-10 take?

The recipe of airbench94_muon (Jordan 2024, arXiv:2404.00498): whitening filters from the training
images, Muon for convolutions, alternate mirroring, shifts of two pixels, label smoothing, and a
learning rate that falls along a line. The rates are those of its source, whose loss is a sum over
2,000 images: 0.24 for filters, 0.053 x 2,000 for biases, 0.67 x 2,000 for the head; its decay, 2e-6
x 2,000 a step, is 0.24 x 0.0167. Two things differ. There are nine epochs: the source has eight,
and about half of its seeds stay below 94 %. And the bias of the first layer is trained to the end,
not for three epochs.

    python launch.py --config=cifar10_94 --workdir=runs/cifar10_94
    python launch.py evaluate --workdir=runs/cifar10_94 --checkpoint=last --views=mirror_translate

The source has 94.01 % with six views (200 seeds) and 0.29 PFLOP. Expected, over three seeds: 0.9414
with six views (0.9401 to 0.9431) in float32, 0.9416 (0.9406 to 0.9428) in bfloat16, 0.934 and 0.935
with one view; 0.284 PFLOP. On two cores with AMX, --train.precision=bfloat16 trains 1,340 images a
second.
docs/results/cifar10_94.md has the curves, the same with less computation, and the gain from each
trick.
It validates on the test split, as its source does; nothing is chosen by these figures.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="cifar10_94",
    dataset=Dataset(
        name="cifar10",
        validation_split="test",
        batch_size=2000,
        eval_batch_size=1000,
        normalize="standardize",
        alternate_flip=True,
        crop_padding=2,
    ),
    model=Model(name="airbench"),
    transfer=Transfer(freeze="stem/conv/kernel", lr_scale="bias:441.7,head:5583"),
    optimizer=Optimizer(
        name="muon",
        learning_rate=0.24,
        momentum=0.85,
        weight_decay=0.0167,
        schedule="triangular",
    ),
    train=Train(epochs=9, label_smoothing=0.2),
)
