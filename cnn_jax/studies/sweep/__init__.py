"""Sweeps: what may vary, which settings to try, and workers that try them."""
