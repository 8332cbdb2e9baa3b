"Written by .ci/doors.py from __init__.py."

from .classifier import CertifiedClassifier as CertifiedClassifier
from .classifier import fit_classifier as fit_classifier
from .certificate import derive_certificate as derive_certificate
from .certificate import promises as promises
from .recertify import FAMILY as FAMILY
from .recertify import recertified as recertified
from .directory import Run as Run
from .directory import decide as decide
from .directory import read_events as read_events
from .journey import PREDICTED_FOR as PREDICTED_FOR
from .journey import fit as fit

__all__ = [
    "CertifiedClassifier",
    "FAMILY",
    "PREDICTED_FOR",
    "Run",
    "decide",
    "derive_certificate",
    "fit",
    "fit_classifier",
    "promises",
    "read_events",
    "recertified",
]
