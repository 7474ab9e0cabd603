"""From a file to a batch: decoding, augmentation, order, loading."""
