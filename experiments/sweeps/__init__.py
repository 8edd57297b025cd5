"""Presets with a SWEEP beside their EXPERIMENT, for the command `sweep`."""
