"""Do VGG16's published weights classify ImageNet's validation images as published?

All parameters are loaded, the classifier's too, and none changes: a run always trains, and here it
makes four steps with a learning rate of 1e-30, which float32 does not see. Validation is on the
middle 224 x 224 of the image whose short side is 256, scaled as for VGG16's training.

    python launch.py --config=imagenet_vgg16_evaluate --workdir=runs/imagenet_vgg16

TFDS's imagenet2012 must be prepared as array_record, or give the folder of the images,
DIR/train/CLASS/* and DIR/validation/CLASS/* with classes named by their WordNet ids (n01440764):
--dataset.name=folder --dataset.path=DIR. Expected validation accuracy: 0.713 (Keras Applications,
of these weights). Not run here: the images may not be given away; --model.name, such as resnet50 or
densenet121, evaluates others that are published (0.749 and 0.750).
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="imagenet_vgg16_evaluate",
    dataset=Dataset(
        name="imagenet2012",
        streaming="true",
        image_size=224,
        resize="crop",
        crop_share=0.875,
        train_examples=1000,
        batch_size=250,
        eval_batch_size=100,
    ),
    model=Model(name="vgg16"),
    transfer=Transfer(weights="imagenet", include=".*", freeze="backbone", cache_features=False),
    optimizer=Optimizer(name="sgd", learning_rate=1e-30, momentum=0.0),
    train=Train(epochs=1),
)
