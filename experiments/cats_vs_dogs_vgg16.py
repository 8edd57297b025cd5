"""How well do frozen ImageNet features tell cats from dogs, scaled as the weights want it?"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="cats_vs_dogs_vgg16",
    dataset=Dataset(name="cats_vs_dogs", image_size=160, batch_size=32, eval_batch_size=50),
    model=Model(name="vgg16", head="pooled", dropout_rate=0.2),
    transfer=Transfer(weights="imagenet", freeze="backbone"),
    optimizer=Optimizer(learning_rate=1e-2, schedule="cosine"),
    train=Train(epochs=10, loss="binary_cross_entropy"),
)
