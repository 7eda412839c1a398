"""Speed of unspool against PyTorch, with the numbers checked first: `python -m benchmarks.run --help`."""
