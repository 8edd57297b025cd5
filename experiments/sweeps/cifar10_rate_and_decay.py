r"""Which learning rate and weight decay are best for the study guide's CNN?

Twenty-four settings drawn at random, nine epochs each on 2,000 images of CIFAR-10, judged on 2,000
others of its training split.

    python launch.py sweep --config=sweeps/cifar10_rate_and_decay --workdir=runs/rate_and_decay

With --sweep.prune=asha, a setting that is not in the best third stops after one epoch or after
three. Measured (docs/results/rate_and_decay.md): the best setting has a validation accuracy of
0.3885, at a rate of 0.0018 and a decay of 0.0011, with and without that flag. At rates of about
0.003 and more, some networks stay at chance.
"""

from cnn_jax.experiment import Dataset, Experiment, Logging, Model, Optimizer, Train
from cnn_jax.options import Sweep

EXPERIMENT = Experiment(
    dataset=Dataset(name="cifar10", train_examples=2000, validation_fraction=0.04, batch_size=50),
    model=Model(name="study_cnn"),
    optimizer=Optimizer(name="adamw", schedule="constant"),
    train=Train(epochs=9),
    logging=Logging(figures_every=None, projector_images=0),
)

SWEEP = Sweep(
    space="optimizer.learning_rate=log(1e-4,1e-1) optimizer.weight_decay=log(1e-4,1)",
    method="random",
    trials=24,
)
