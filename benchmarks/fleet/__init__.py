"""What `benchmarks/hosts.py` simulates of many hosts, and measures on one."""
