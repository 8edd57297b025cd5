"""The processes that the benchmark compares: one file for each library, and their common parts."""
