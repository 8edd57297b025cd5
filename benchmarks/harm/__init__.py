"""What `benchmarks/faults.py` does harm with: processes, damages, and one module for each group."""
