"""Several processes of one run, as torchrun starts them."""
