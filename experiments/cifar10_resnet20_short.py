"""How accurate is ResNet-20 on CIFAR-10 in a tenth of its epochs?

`cifar10_resnet20` with 16 epochs instead of 164. The learning rate rises to 0.1 over four of them
and falls to 0 along a line, which suits short runs better than steps. All else is the same, images
mirrored by chance and validation on the test split included.

    python launch.py --config=cifar10_resnet20_short --workdir=runs/cifar10_resnet20_short

Expected test accuracy: 0.882 (one seed, 190 s an epoch on two cores), after 0.437, 0.591, 0.626,
0.610, 0.679, 0.769, 0.784, 0.823, 0.802, 0.827, 0.838, 0.860, 0.864, 0.867 and 0.878 in the epochs
before. The whole recipe, with which the paper reaches 0.9125, is `cifar10_resnet20`, for an
accelerator.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train

EXPERIMENT = Experiment(
    name="cifar10_resnet20_short",
    dataset=Dataset(
        name="cifar10",
        batch_size=128,
        validation_split="test",
        normalize="standardize",
        flip=True,
        crop_padding=4,
    ),
    model=Model(name="resnet20"),
    optimizer=Optimizer(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="triangular",
        warmup_epochs=4,
    ),
    train=Train(epochs=16),
)
