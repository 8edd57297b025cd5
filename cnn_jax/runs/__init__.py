"""One run: its directory, who writes it, and its checkpoints."""
