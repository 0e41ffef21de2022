"""A deployed model: description, normalisation, reading, writing and verifying."""
