"""Evaluation: metrics, and the loop over a whole split."""
