"""What a run shows: TensorBoard events, figures, tables, progress."""
