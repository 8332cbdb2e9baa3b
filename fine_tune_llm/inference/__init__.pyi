"Written by .ci/doors.py from __init__.py."

from .decision import Decision as Decision
from .decision import Decisions as Decisions
from .decision import Rationale as Rationale
from .decision import Uncertainty as Uncertainty
from .decision import WordEffect as WordEffect
from .decision import hold as hold
from .decision import make_decisions as make_decisions
from .rationale import occlusion as occlusion
from .scope import ScopeMeasure as ScopeMeasure
from .scope import fit_scope_measure as fit_scope_measure
from .generation import written_decisions as written_decisions

__all__ = [
    "Decision",
    "Decisions",
    "Rationale",
    "ScopeMeasure",
    "Uncertainty",
    "WordEffect",
    "fit_scope_measure",
    "hold",
    "make_decisions",
    "occlusion",
    "written_decisions",
]
