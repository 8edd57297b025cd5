"""How accurate is the study guide's small CNN on CIFAR-10 after five epochs?

Two blocks of two convolutions, 58,389 parameters, Adam, and batches of 50, as in the guide. Like
the guide it validates on the test split, so its figures are test figures and must not be used to
choose settings; --dataset.validation_split=none holds out a part of 'train' instead.

    python launch.py --config=cifar10_cnn --workdir=runs/cifar10_cnn

Expected validation accuracy after the fifth epoch: 0.640 to 0.676, mean 0.654 (three seeds), in
316 s on two cores of an AMD EPYC (one run). Keras on TensorFlow, run as the guide writes it on the
same images: 0.656 in 347 s and 0.645 in 309 s (two seeds, another day).
The guide itself prints 0.6112, 0.6368 and 0.6776 over its first epochs.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="cifar10_cnn",
    dataset=Dataset(name="cifar10", batch_size=50, validation_split="test"),
    model=Model(name="study_cnn"),
    train=Train(epochs=5),
)
