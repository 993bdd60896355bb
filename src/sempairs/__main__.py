"""`python -m sempairs` is the command `sempairs`."""

from sempairs.cli.main import main

main()
