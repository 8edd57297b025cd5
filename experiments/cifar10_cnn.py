"""How far does the study guide's small CNN come on CIFAR-10 in five epochs?"""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="cifar10_cnn",
    dataset=Dataset(name="cifar10", batch_size=50, validation_split="test"),
    model=Model(name="study_cnn"),
    train=Train(epochs=5),
)
