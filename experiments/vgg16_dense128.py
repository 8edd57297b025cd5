"""How accurate is the transfer guide's other head, Dense 128 and ten classes, on CIFAR-10?

224 x 224 images, frozen VGG16, global average pooling, Dense 128 with ReLU, ten classes. It uses
2,000 training and 1,000 validation images, because enlarging CIFAR-10 by seven is expensive.

    python launch.py --config=vgg16_dense128 --workdir=runs/vgg16_dense128

Expected validation accuracy on the 1,000 held-out images: 0.791 to 0.797, mean 0.794 (three seeds);
a ridge probe in closed form on the same features gives 0.814, more than the head. The study CNN,
trained on twenty times as many images of 32 x 32, reaches 0.654. The guide gives no figure.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="vgg16_dense128",
    dataset=Dataset(
        name="cifar10",
        image_size=224,
        batch_size=32,
        eval_batch_size=50,
        train_examples=2000,
        validation_fraction=0.02,
    ),
    model=Model(name="vgg16", head="pooled_dense128"),
    transfer=Transfer(weights="imagenet", freeze="backbone"),
    optimizer=Optimizer(learning_rate=1e-3),
    train=Train(epochs=10),
)
