"""`python -m proxy` is `counterfoil`."""

from proxy.cli import main

main()
