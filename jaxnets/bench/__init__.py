"""Benchmarks: this library beside others on the same work, and beside what the hardware could do.

Everything is measured as ratios within one run: order alternates, the figure is the median of each round's ratio with a
bootstrap interval of 95%, and all start from the same weights and must come to the same loss.
"""
