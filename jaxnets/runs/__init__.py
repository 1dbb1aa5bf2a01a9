"""A run's folder: what it holds, how it is written, and what is drawn and printed of it."""
