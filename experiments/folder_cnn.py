"""What does a small CNN make of my own folder of images?"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train

EXPERIMENT = Experiment(
    name="folder_cnn",
    dataset=Dataset(
        name="folder",
        image_size=64,
        batch_size=32,
        normalize="standardize",
        flip=True,
        crop_padding=4,
    ),
    model=Model(name="study_cnn"),
    optimizer=Optimizer(schedule="cosine", warmup_epochs=1),
    train=Train(epochs=20),
)
