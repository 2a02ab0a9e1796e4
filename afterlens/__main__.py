"""`python -m afterlens`, also for `accelerate launch -m afterlens train ...`."""

from afterlens.cli import main

main()
