"""New nights scored with trained networks."""
