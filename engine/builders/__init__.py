"""From the configuration to parts that fit each other, and to a run."""
