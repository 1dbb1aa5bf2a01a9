"""``python -m jaxnets`` is ``jaxnets``."""

from jaxnets.cli import main

raise SystemExit(main())
