"""What `benchmarks/engines.py` does to sweeps on a real Slurm and a real Ray."""
