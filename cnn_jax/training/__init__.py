"""Training: state and steps, optimizers, batch order, checkpoints and the loop."""
