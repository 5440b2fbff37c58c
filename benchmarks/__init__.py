"""What the queue costs, as ratios within one run: `python -m benchmarks`."""
