"""Training: the compiled loop, its data, its evaluation, and events for whoever watches."""
