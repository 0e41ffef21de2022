"""The study of benchmarks/papers.py: its data, its cells, how they are run, and the page of their results."""
