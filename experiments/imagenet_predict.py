"""What is on this photograph? A network with ImageNet's weights, without any training of yours.

    python launch.py predict --config=imagenet_predict --model.name=resnet50 photo.jpg

The weights are downloaded once (103 MB). Any model with ImageNet weights will do (`launch.py
models`), and any file or repository whose network has ImageNet's 1,000 classes, such as
`--model.name=convnext_tiny --transfer.weights=hf://timm/convnext_tiny.fb_in1k`. Images are cut and
scaled as those on which the published accuracy was measured: 74.9 % of ImageNet's validation images
for this file, by Keras' table. The probabilities are not calibrated.
"""

from cnn_jax.experiment import Experiment, Model, Transfer

EXPERIMENT = Experiment(
    name="imagenet_predict",
    model=Model(name="resnet50"),
    transfer=Transfer(weights="imagenet", include=".*"),
)
