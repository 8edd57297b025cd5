"""How accurate is a network without convolutions on CIFAR-10?

The dense baseline that the guides compare with: 1,707,274 parameters, 29 times those of
`cifar10_cnn`, in the same five epochs.

    python launch.py --config=cifar10_mlp --workdir=runs/cifar10_mlp

Expected validation accuracy (on the test split, as in `cifar10_cnn`): 0.456 to 0.473, mean 0.463
(three seeds). The guide gives no figure.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="cifar10_mlp",
    dataset=Dataset(name="cifar10", batch_size=50, validation_split="test"),
    model=Model(name="mlp"),
    train=Train(epochs=5),
)
