"Written by .ci/doors.py from __init__.py."

from .decision import Decision as Decision
from .decision import Decisions as Decisions
from .decision import Rationale as Rationale
from .decision import Uncertainty as Uncertainty
from .decision import WordEffect as WordEffect
from .decision import hold as hold
from .decision import make_decisions as make_decisions
from .rationale import occlusion as occlusion

__all__ = [
    "Decision",
    "Decisions",
    "Rationale",
    "Uncertainty",
    "WordEffect",
    "hold",
    "make_decisions",
    "occlusion",
]
