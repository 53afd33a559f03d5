"""``python -m captum_3dcam.cli``, where the script ``captum-3dcam`` is not on the path."""

import sys

from captum_3dcam.cli import main

if __name__ == "__main__":
    sys.exit(main())
