"""`python -m tfqreg.export.cli`, for when the console command is not on the path."""

import sys

from .commands import main

sys.exit(main())
