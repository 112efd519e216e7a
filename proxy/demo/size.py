"""How large the sample reports are; `counterfoil demo token` needs to load no more than this of them."""

from typing import Final

STORES: Final = 1333
DAYS: Final = 90
PRODUCTS: Final = 240
ROWS: Final = 120_000
MOST_ROWS: Final = STORES * DAYS * PRODUCTS
"""A store sells each product once a day at most."""
