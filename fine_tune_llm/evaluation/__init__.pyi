"Written by .ci/doors.py from __init__.py."

from .findings import not_evaluated as not_evaluated
from .findings import share as share
from .baseline import baselines as baselines
from .evidence import GROUP_MEASURES as GROUP_MEASURES
from .evidence import audit as audit
from .evidence import write_audit as write_audit
from .figures import fig_reliability as fig_reliability
from .figures import fig_risk_coverage as fig_risk_coverage
from .figures import fig_set_sizes as fig_set_sizes
from .report import render_report as render_report
from .card import render_card as render_card
from .publish import write_report as write_report

__all__ = [
    "GROUP_MEASURES",
    "audit",
    "baselines",
    "fig_reliability",
    "fig_risk_coverage",
    "fig_set_sizes",
    "not_evaluated",
    "render_card",
    "render_report",
    "share",
    "write_audit",
    "write_report",
]
