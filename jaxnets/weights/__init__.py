"""Weights of others: files, maps of names, and models that come with weights; it knows nothing of training."""
