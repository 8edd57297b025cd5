"""Does ResNet-20 reach its published 91.25 % on CIFAR-10?

The recipe of He et al. 2015, section 4.2: 269,722 parameters, SGD with momentum 0.9, batches of
128, weight decay 1e-4, a learning rate of 0.1 that is divided by 10 after 32,000 and 48,000 of
64,000 steps, images mirrored and cropped at random after padding by 4. It differs from the paper in
four things: Nesterov's momentum, weight decay of kernels only, padding by reflection, and images
scaled by mean and standard deviation of the channels (the paper subtracts the mean of each pixel).
Like the paper it trains on all 50,000 images and measures on the test split, so its figures must
not be used to choose settings; --dataset.validation_split=none holds out a part of 'train' instead.

    python launch.py --config=cifar10_resnet20 --workdir=runs/cifar10_resnet20

Expected test accuracy: 0.9125 (published). Nobody has run it to its end here: 64,124 steps are for
an accelerator; `cifar10_resnet20_short` is for two cores.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train

EXPERIMENT = Experiment(
    name="cifar10_resnet20",
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
        schedule="step",
        milestones="0.5,0.75",
    ),
    train=Train(epochs=164),
)
