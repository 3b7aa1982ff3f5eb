import pathlib
import sys

# Test folders are no packages (import mode importlib): make the shared helpers importable by name.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
