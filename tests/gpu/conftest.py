"""The tests on a GPU compare with the same models and formulas as those of `tests/unit`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
