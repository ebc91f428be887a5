"""Makes the modules beside this directory importable: python3 -m unittest discover harness/validate."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
