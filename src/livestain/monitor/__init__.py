"""What looks at a run while it goes on; it reads the store and nothing else."""
