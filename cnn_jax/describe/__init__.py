"""Shows networks: layers, FLOPs and memory, blocks and pictures, and the list of the models."""
