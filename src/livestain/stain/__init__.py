"""Planes owed become planes done: the backlog, the worker and its host; no hardware here."""
