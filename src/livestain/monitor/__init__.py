"""The room of the web page; it reads the store and nothing else."""
