"""Counterfoil: a data-access policy enforcement proxy for internal report stores."""

__version__ = "0.1.0"
