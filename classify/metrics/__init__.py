"""How well images are classified: one label each, or any number of them."""
