"""How accurate is the transfer guide's recipe, exactly as it is written?

Frozen VGG16, global average pooling, dropout 0.2, one logit, Adam 1e-4, ten epochs, and images
scaled to [-1, 1], which is not how VGG16 was trained. `cats_vs_dogs_vgg16` is the same network with
the weights' own scaling and a learning rate that converges.

    python launch.py --config=cats_vs_dogs_guide --workdir=runs/cats_vs_dogs_guide

On a folder: --dataset.name=folder --dataset.path=DIR. Expected validation accuracy on 2,000 + 1,000
photographs of the set: 0.825 to 0.856, mean 0.840 (three seeds). It still rises in the last epoch:
630 steps at a rate of 1e-4 are far from convergence. A ridge probe in closed form reaches 0.923 on
the same features, and 0.968 on features of images with the weights' own scaling. So the scaling
costs about five points, and the learning rate the other eight. The guide gives no figure itself.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="cats_vs_dogs_guide",
    dataset=Dataset(
        name="cats_vs_dogs",
        image_size=160,
        batch_size=32,
        eval_batch_size=50,
        normalize="symmetric",
    ),
    model=Model(name="vgg16", head="pooled", dropout_rate=0.2),
    transfer=Transfer(weights="imagenet", freeze="backbone"),
    optimizer=Optimizer(learning_rate=1e-4),
    train=Train(epochs=10, loss="binary_cross_entropy"),
)
