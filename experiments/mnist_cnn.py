"""How accurate is the study guide's network for 28 x 28 grey images after five epochs?

Conv 32, pool, Conv 64, pool, Conv 64, Dense 64: 93,322 parameters, Adam, and batches of 64. A tenth
of 'train' is held out to validate on. MNIST is downloaded on first use, or its published files lie
in a folder: --dataset.path=FOLDER. Fashion-MNIST, KMNIST and CIFAR-100 are had by name too:

    python launch.py --config=mnist_cnn --workdir=runs/mnist
    python launch.py --config=mnist_cnn --dataset.name=fashion_mnist --workdir=runs/fashion

Measured on Fashion-MNIST, not on MNIST: validation accuracy 0.904 to 0.908, mean 0.906 (three
seeds, 6,000 held-out images); test accuracy of the first of them 0.898.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="mnist_cnn",
    dataset=Dataset(name="mnist", batch_size=64),
    model=Model(name="mnist_cnn"),
    train=Train(epochs=5),
)
