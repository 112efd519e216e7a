"""Placeholder docstring: replaced by its slice."""
