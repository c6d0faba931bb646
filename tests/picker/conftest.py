from __future__ import annotations

import sys
from pathlib import Path

# The stand-ins of this folder are shared by its tests; importlib mode has no folder of its own on the path.
sys.path.insert(0, str(Path(__file__).parent))
