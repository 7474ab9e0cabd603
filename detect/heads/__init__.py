"""Detection heads, one per file: layers, assignment of objects to slots, decoding."""
