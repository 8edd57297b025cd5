"""Trust: calibration, abstention with a certificate, prediction sets, images unlike the data.

Pure functions of logits, features, labels and groups. The passes of the network and the file
trust.json are in `cnn_jax.runs.trusting`.
"""
