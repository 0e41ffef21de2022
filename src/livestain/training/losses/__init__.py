"""The losses: what a recipe minimises.

Importing this package loads no torch; `livestain.training.losses.settings` is what recipes need.
"""
