"""``python -m benchmarks`` is ``jaxnets bench``."""

import sys

from jaxnets.cli import main

sys.exit(main(["bench", *sys.argv[1:]]))
