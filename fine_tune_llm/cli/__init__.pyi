"Written by .ci/doors.py from __init__.py."

from .program import main as main

__all__ = [
    "main",
]
