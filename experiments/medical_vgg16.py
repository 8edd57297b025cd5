"""What do frozen ImageNet features say of medical images, few of them positive?

VGG16 without training, a linear head on its features. What photographs of pets take for granted is
left out: images are padded to a square, not stretched, and never mirrored (a mirrored chest is
another chest). Classes count alike in the loss, the best epoch is the one with the highest AUC on
validation, and training stops after five epochs without a better one.

    python launch.py --config=medical_vgg16 --dataset.path=images --workdir=runs/medical

A table with a column of patients: --dataset.name=table --dataset.path=labels.csv, and all images of
a patient are in one split. Then `evaluate --operating_point=sensitivity:0.95` chooses a threshold
on validation. Measured on RetinaMNIST (28 x 28 pixels, five grades, here at 64 x 64): a test AUC of
0.703 (0.700 to 0.706, three seeds), where a small CNN from scratch has 0.723 (0.719 to 0.728), so
at this size ImageNet's features are no gain; see docs/results/retina.md.
"""

from cnn_jax.experiment import Dataset, Experiment, Model, Optimizer, Train, Transfer

EXPERIMENT = Experiment(
    name="medical_vgg16",
    dataset=Dataset(name="folder", image_size=160, resize="pad", batch_size=32, eval_batch_size=50),
    model=Model(name="vgg16", head="pooled", dropout_rate=0.2),
    transfer=Transfer(weights="imagenet", freeze="backbone"),
    optimizer=Optimizer(learning_rate=1e-3),
    train=Train(epochs=50, class_weights="balanced", select="auc", patience=5),
)
