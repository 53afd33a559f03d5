"""``python -m captum_3dcam.cli``, where the script ``captum-3dcam`` is not on the path.

For ``-m``, Python itself puts the current folder first on ``sys.path``, and this package has been
imported from there when this file runs. ``python -P -m`` (Python 3.11) does not.
"""

import sys

from captum_3dcam.cli import main

if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # what the command imports later is not from the current folder
    sys.exit(main())
