"""Counterfoil: a data-access policy enforcement proxy for internal report stores."""

__version__ = "0.1.0"

import os

# Blocks are worked on in threads of our own, one each: to hand each step over to a pool of polars' own
# costs a tenth of the rate of masked CSV. It reads this when it is first imported.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
