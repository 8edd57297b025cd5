"""Does fine-tuning the last block beat a frozen backbone on cats and dogs?

Three epochs train the head; then block5 is set free at a fiftieth of the head's learning rate. The
first four blocks stay frozen throughout, so their features are computed once.

    python launch.py --config=cats_vs_dogs_finetune --workdir=runs/cats_vs_dogs_finetune

Not measured with this code yet; compare with `cats_vs_dogs_vgg16`.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="cats_vs_dogs_finetune",
    dataset=Dataset(name="cats_vs_dogs", image_size=160, batch_size=32, eval_batch_size=50),
    model=Model(name="vgg16", head="pooled", dropout_rate=0.2),
    transfer=Transfer(
        weights="imagenet", freeze="backbone", unfreeze="4:block5", lr_scale="block5:0.02"
    ),
    optimizer=Optimizer(learning_rate=3e-3, schedule="cosine"),
    train=Train(epochs=8, loss="binary_cross_entropy"),
)
