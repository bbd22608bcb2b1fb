"""`python -m bertjax` is the command `bertjax`."""

from bertjax.cli import main

main()
