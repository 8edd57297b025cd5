"""Runs the transfer study guide's script on Keras; its arguments are FOLDER, WEIGHTS and EPOCHS.

Every epoch reads the images from their folder and runs the frozen VGG16 on all of them. The last
line that it prints is JSON: the seconds of each epoch.
"""

import itertools
import json
import sys
import time
from typing import Any

import keras

folder, weights, epochs = sys.argv[1:]
load: Any = keras.utils.image_dataset_from_directory  # Any: Keras declares too narrow a result
train, validation = (
    load(f"{folder}/{split}", image_size=(160, 160), batch_size=32).prefetch(2)
    for split in ("train", "validation")
)
base = keras.applications.VGG16(input_shape=(160, 160, 3), include_top=False, weights=weights)
base.trainable = False
inputs = keras.Input((160, 160, 3))
x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
x = keras.layers.Dropout(0.2)(x)
model = keras.Model(inputs, keras.layers.Dense(1)(x))
model.compile(
    keras.optimizers.Adam(1e-4),
    keras.losses.BinaryCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
times = [time.perf_counter()]
clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: times.append(time.perf_counter()))
history = model.fit(train, epochs=int(epochs), validation_data=validation, callbacks=[clock])
seconds = [after - before for before, after in itertools.pairwise(times)]
print("\n" + json.dumps({"epochs": seconds, "accuracy": history.history["val_accuracy"][-1]}))
