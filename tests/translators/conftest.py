import sys
from pathlib import Path

# The tests of this folder share a reader of manifests, an interpreter of routes and a generator of objects, which are
# modules beside them; pytest's importlib mode puts no test folder on the path.
sys.path.insert(0, str(Path(__file__).parent))
