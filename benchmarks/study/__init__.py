"""The study of benchmarks/papers.py: its data, its cells, how they are run, and the page that tells what came of them."""
