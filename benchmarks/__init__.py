"""Benchmarks that are more than a case of ``jaxnets bench``: growth, whole runs, starting, and the gate of CI."""
