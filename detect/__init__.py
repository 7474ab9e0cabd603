"""What turns a classifier into a detector."""
