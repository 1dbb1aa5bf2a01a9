"""What trained models are used for beyond predicting."""
