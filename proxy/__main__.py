"""`python -m proxy` is `counterfoil`."""

from proxy.cli import main

if __name__ == "__main__":  # and not in a process that `log verify` begins
    main()
