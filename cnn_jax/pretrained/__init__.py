"""Pretrained weights: which there are, how to get them, and how to read files of weights."""
