"""Do wider late convolutions help the study guide's CNN on CIFAR-10?"""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="cifar10_cnn_wide",
    dataset=Dataset(name="cifar10", batch_size=50, validation_split="test"),
    model=Model(name="study_cnn_wide"),
    train=Train(epochs=5),
)
