"""The notes' ideas as one image and one table each: `python -m engine.explain`."""
