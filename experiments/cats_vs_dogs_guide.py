"""What does the transfer guide's recipe reach, exactly as it is written?"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="cats_vs_dogs_guide",
    dataset=Dataset(
        name="cats_vs_dogs",
        image_size=160,
        batch_size=32,
        eval_batch_size=50,
        normalize="symmetric",
    ),
    model=Model(name="vgg16", head="pooled", dropout_rate=0.2),
    transfer=Transfer(weights="imagenet", freeze="backbone"),
    optimizer=Optimizer(learning_rate=1e-4),
    train=Train(epochs=10, loss="binary_cross_entropy"),
)
