"""Do wider late convolutions help the study guide's CNN on CIFAR-10?

The third and fourth convolution have 128 filters instead of 17 and 14: 585,526 parameters, ten
times those of `cifar10_cnn`, and 2.8 times its FLOPs. All else is the same, validation on the test
split included.

    python launch.py --config=cifar10_cnn_wide --workdir=runs/cifar10_cnn_wide

Expected validation accuracy after the fifth epoch: 0.734 to 0.745, mean 0.738 (three seeds), in
about 11 minutes on two cores of an AMD EPYC. The guide gives no figure for it.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="cifar10_cnn_wide",
    dataset=Dataset(name="cifar10", batch_size=50, validation_split="test"),
    model=Model(name="study_cnn_wide"),
    train=Train(epochs=5),
)
