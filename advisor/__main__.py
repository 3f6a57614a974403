"""``python -m advisor`` is ``ecgadvise``."""

from advisor.cli import main

main()
