"""Order of the module search path in every Python process of ganlab: its own packages and libraries before a user's.

Invariant: a folder on the user's PYTHONPATH is searched last, and the folder that a process starts in is not searched.
Python runs this file by itself where `cluster.interpreter.safe_environment` puts its folder on PYTHONPATH; the command
`ganlab` runs it by its path, before any package is imported. So it imports nothing but Python's own modules.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

USER_PATH = "GANLAB_USER_PATH"  # the user's PYTHONPATH, in the environment of processes that ganlab starts

_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(os.path.dirname(_here))  # the folder of the packages
_given = os.environ.get(USER_PATH, os.environ.get("PYTHONPATH", ""))
_users = [os.path.abspath(folder) for folder in _given.split(os.pathsep)] if _given else []
_users = [folder for folder in dict.fromkeys(_users) if folder not in (_here, _root)]
_started_by_python = __name__ == "sitecustomize"
# Python puts the folder of the script, or the current one, first once it has run `sitecustomize`; unless safe_path.
_others = sys.path if _started_by_python or sys.flags.safe_path else sys.path[1:]
_ours = [folder for folder in _others if folder != _here and os.path.abspath(folder) not in _users]
sys.path[:] = [*([] if _root in _ours else [_root]), *_ours, *_users]

# The one that this one stands before: Python would have found the user's first, then the machine's own.
_spec = PathFinder.find_spec("sitecustomize", [*_users, *sys.path]) if _started_by_python else None
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(module_from_spec(_spec))
