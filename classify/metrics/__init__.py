"""How well pictures are classified: one label each, or any number of them."""
