"""Convolution, normalisation and pooling, written so that a CPU computes them fast.

`README.md` beside this file says what is slow on a CPU, what stands in its place, and what each
piece gained. A program for a GPU or TPU gets the plain operations.
"""

from cnn_jax.cpu.choice import by_onednn, chosen, compiler_options, describe, using

__all__ = ["by_onednn", "chosen", "compiler_options", "describe", "using"]
