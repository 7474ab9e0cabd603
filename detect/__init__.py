"""Object detection on top of classification: heads, losses, metrics and datasets with boxes."""
