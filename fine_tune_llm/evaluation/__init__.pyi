"Written by .ci/doors.py from __init__.py."

from .findings import Analysis as Analysis
from .findings import VERDICTS as VERDICTS
from .findings import by_severity as by_severity
from .findings import measured as measured
from .findings import not_evaluated as not_evaluated
from .findings import share as share
from .findings import verdict_of as verdict_of
from .subject import Memberships as Memberships
from .subject import Subject as Subject
from .subject import memberships_of as memberships_of
from .subject import subject_of as subject_of
from .group_decisions import GapChange as GapChange
from .group_decisions import abstention_gap as abstention_gap
from .group_decisions import gap_change as gap_change
from .group_decisions import threshold_curves as threshold_curves
from .baseline import baselines as baselines
from .baseline import training_gain as training_gain
from .group_findings import Promise as Promise
from .group_findings import gap_findings as gap_findings
from .group_findings import metric_said as metric_said
from .group_findings import promise_findings as promise_findings
from .fairness import FairnessAnalysis as FairnessAnalysis
from .fairness import FairnessAnalyzer as FairnessAnalyzer
from .differences import compare_outcomes as compare_outcomes
from .alarms import alarms_of as alarms_of
from .alarms import contradicted as contradicted
from .alarms import shift_between as shift_between
from .alarms import violation_p_value as violation_p_value
from .mitigation import measure_change as measure_change
from .mitigation import measure_mitigations as measure_mitigations
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
    "Analysis",
    "FairnessAnalysis",
    "FairnessAnalyzer",
    "GROUP_MEASURES",
    "GapChange",
    "Memberships",
    "Promise",
    "Subject",
    "VERDICTS",
    "abstention_gap",
    "alarms_of",
    "audit",
    "baselines",
    "by_severity",
    "compare_outcomes",
    "contradicted",
    "fig_reliability",
    "fig_risk_coverage",
    "fig_set_sizes",
    "gap_change",
    "gap_findings",
    "measure_change",
    "measure_mitigations",
    "measured",
    "memberships_of",
    "metric_said",
    "not_evaluated",
    "promise_findings",
    "render_card",
    "render_report",
    "share",
    "shift_between",
    "subject_of",
    "threshold_curves",
    "training_gain",
    "verdict_of",
    "violation_p_value",
    "write_audit",
    "write_report",
]
