"""The processes that the benchmark compares: one file a library, and what they have in common."""
