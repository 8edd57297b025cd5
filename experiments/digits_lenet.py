"""Does everything work here? LeNet-5 on scikit-learn's handwritten digits, without a network."""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="digits_lenet",
    dataset=Dataset(name="digits", image_size=32, batch_size=64),
    model=Model(name="lenet5"),
    train=Train(epochs=12),
)
