"""Networks that say what is in an image."""
