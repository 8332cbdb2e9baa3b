"Written by .ci/doors.py from __init__.py."

from .certificate import derive_certificate as derive_certificate
from .directory import Run as Run
from .directory import promises as promises
from .directory import read_events as read_events
from .journey import PREDICTED_FOR as PREDICTED_FOR
from .journey import fit as fit

__all__ = [
    "PREDICTED_FOR",
    "Run",
    "derive_certificate",
    "fit",
    "promises",
    "read_events",
]
