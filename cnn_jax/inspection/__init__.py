"""What is in a data set, before training, and which of its labels a trained network doubts."""
