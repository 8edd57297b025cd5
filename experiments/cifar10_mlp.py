"""What does CIFAR-10 look like to a network without convolutions?"""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="cifar10_mlp",
    dataset=Dataset(name="cifar10", batch_size=50, validation_split="test"),
    model=Model(name="mlp"),
    train=Train(epochs=5),
)
