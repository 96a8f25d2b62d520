"""`python -m tfqreg.export.cli`, where the console command is not on the path."""

import sys

from .commands import main

sys.exit(main())
