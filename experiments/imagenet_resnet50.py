"""Does ResNet-50 reach the published 76.1 % on ImageNet?

The recipe of PyTorch's reference, after He et al. 2015 (section 3.4) and Goyal et al. 2017: SGD
with momentum 0.9, batches of 256, weight decay 1e-4, a learning rate of 0.1 that is divided by 10
after 30, 60 and 80 of 90 epochs; random parts of 0.08 to 1 of the area, mirrored; validation on the
middle 224 x 224 of the image whose short side is 256. It differs in two things: Nesterov's
momentum, and weight decay of kernels only. The images are decoded while the network trains.

    python launch.py --config=imagenet_resnet50 --workdir=runs/imagenet_resnet50

TFDS's imagenet2012 must be prepared as array_record (its archives are downloaded by hand, and
preparing takes the `tf` extra), or give the folder of the images, DIR/train/CLASS/* and
DIR/validation/CLASS/*: --dataset.name=folder --dataset.path=DIR. Expected validation accuracy:
0.7613 (torchvision's weights of this recipe). Not run here: 450,000 steps are for accelerators;
docs/results/streaming.md has what a synthetic set of the same form shows of reading it.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train

EXPERIMENT = Experiment(
    name="imagenet_resnet50",
    dataset=Dataset(
        name="imagenet2012",
        streaming="true",
        image_size=224,
        resize="crop",
        crop_share=0.875,
        batch_size=256,
        eval_batch_size=250,
        normalize="torch",
        random_crop=0.08,
        flip=True,
    ),
    model=Model(name="resnet50"),
    optimizer=Optimizer(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="step",
        milestones="0.3333,0.6667,0.8889",
    ),
    train=Train(epochs=90),
)
