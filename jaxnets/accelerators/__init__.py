"""Compiling for accelerators that are not there, and what a step would take on them."""
