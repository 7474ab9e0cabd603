"""Pictures with one label each."""
