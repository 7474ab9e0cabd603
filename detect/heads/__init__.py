"""One file a head: its layers, its assignment, its decoding."""
