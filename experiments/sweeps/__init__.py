"""Presets that have a SWEEP besides their EXPERIMENT, for the command `sweep`."""
