"""Output for people: figures, tables, HTML pages, and the files of TensorBoard."""
