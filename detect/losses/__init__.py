"""What detection adds to the losses of classification."""
