"""How well do frozen ImageNet features tell cats from dogs, with the weights' own image scaling?

This is the network of `cats_vs_dogs_guide` with two changes: the images are scaled as for VGG16's
training (BGR, ImageNet's means subtracted), and the learning rate converges in ten epochs (Adam,
1e-2 falling to 0 along a cosine).

    python launch.py --config=cats_vs_dogs_vgg16 --workdir=runs/cats_vs_dogs_vgg16

On a folder: --dataset.name=folder --dataset.path=DIR, and --train.loss=cross_entropy for more than
two classes. Expected validation accuracy on 2,000 + 1,000 photographs of the set: 0.974 to 0.975,
mean 0.9747 (three seeds); a ridge probe in closed form on the same features gives 0.968. The guide
gives no figure for VGG16 here.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="cats_vs_dogs_vgg16",
    dataset=Dataset(name="cats_vs_dogs", image_size=160, batch_size=32, eval_batch_size=50),
    model=Model(name="vgg16", head="pooled", dropout_rate=0.2),
    transfer=Transfer(weights="imagenet", freeze="backbone"),
    optimizer=Optimizer(learning_rate=1e-2, schedule="cosine"),
    train=Train(epochs=10, loss="binary_cross_entropy"),
)
