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
from .baseline import baselines as baselines
from .baseline import training_gain as training_gain
from .differences import compare_outcomes as compare_outcomes
from .register import RiskEntry as RiskEntry
from .register import known_hazards as known_hazards
from .register import merge_registers as merge_registers
from .register import read_register as read_register
from .register import register_of as register_of
from .register import register_to_yaml as register_to_yaml
from .cost_report import cost_report as cost_report
from .cost_report import critical_report as critical_report
from .stress import StressAnalysis as StressAnalysis
from .stress import StressTest as StressTest
from .risk import RiskAnalysis as RiskAnalysis
from .risk import RiskAssessment as RiskAssessment
from .risk import risk_of as risk_of
from .alarms import alarms_of as alarms_of
from .alarms import contradicted as contradicted
from .alarms import shift_between as shift_between
from .alarms import violation_p_value as violation_p_value
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
    "GROUP_MEASURES",
    "Memberships",
    "RiskAnalysis",
    "RiskAssessment",
    "RiskEntry",
    "StressAnalysis",
    "StressTest",
    "Subject",
    "VERDICTS",
    "alarms_of",
    "audit",
    "baselines",
    "by_severity",
    "compare_outcomes",
    "contradicted",
    "cost_report",
    "critical_report",
    "fig_reliability",
    "fig_risk_coverage",
    "fig_set_sizes",
    "known_hazards",
    "measured",
    "memberships_of",
    "merge_registers",
    "not_evaluated",
    "read_register",
    "register_of",
    "register_to_yaml",
    "render_card",
    "render_report",
    "risk_of",
    "share",
    "shift_between",
    "subject_of",
    "training_gain",
    "verdict_of",
    "violation_p_value",
    "write_audit",
    "write_report",
]
