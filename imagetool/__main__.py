"""`python -m imagetool`."""

from imagetool.cli import main

main()
