"""How accurate is a small CNN on my own folder of images?

The study guide's CNN on 64 x 64 images, standardised, mirrored and shifted at random, with a
learning rate that falls to 0 over ten epochs. Where left and right differ, as in a chest x-ray,
give --nodataset.flip: a mirrored chest is another chest.

    python launch.py --config=folder_cnn --dataset.path=photos --workdir=runs/folder_cnn

The accuracy depends on the folder. On 2,000 + 1,000 photographs of cats and dogs the validation
accuracy was 0.727 to 0.741, mean 0.733 (three seeds); frozen pretrained features reach 0.975. So
with a few thousand images start from pretrained weights instead: see `cats_vs_dogs_vgg16`.
"""

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
    train=Train(epochs=10),
)
