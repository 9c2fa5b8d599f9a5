"""`python -m worker` is `screen`."""

from worker.cli.main import main

main()
