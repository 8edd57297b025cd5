"""Does everything work here? LeNet-5 on scikit-learn's handwritten digits, without a download.

1,797 real images of 8 x 8 pixels, enlarged to LeNet's 32 x 32; under a minute on two cores.

    python launch.py --config=digits_lenet --workdir=runs/digits_lenet

Expected validation accuracy: 0.965 to 0.979, mean 0.972 (three seeds). It is measured on 144
held-out images, so one image is 0.007. The study guides do not use these digits.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Train

EXPERIMENT = Experiment(
    name="digits_lenet",
    dataset=Dataset(name="digits", image_size=32, batch_size=64),
    model=Model(name="lenet5"),
    train=Train(epochs=12),
)
