"Written by .ci/doors.py from __init__.py."

from .findings import Analysis as Analysis
from .findings import VERDICTS as VERDICTS
from .findings import by_severity as by_severity
from .findings import measured as measured
from .findings import not_evaluated as not_evaluated
from .findings import share as share
from .findings import verdict_of as verdict_of
from .provenance import curve_of as curve_of
from .provenance import data_of as data_of
from .provenance import day_of as day_of
from .provenance import identity_of as identity_of
from .provenance import settings_of as settings_of
from .provenance import training_of as training_of
from .subject import Memberships as Memberships
from .subject import Subject as Subject
from .subject import memberships_of as memberships_of
from .subject import subject_of as subject_of
from .errors import ErrorAnalysis as ErrorAnalysis
from .errors import ErrorAnalyzer as ErrorAnalyzer
from .errors import shown_text as shown_text
from .baseline import baselines as baselines
from .baseline import training_gain as training_gain
from .differences import compare_outcomes as compare_outcomes
from .alarms import alarms_of as alarms_of
from .alarms import contradicted as contradicted
from .alarms import shift_between as shift_between
from .alarms import violation_p_value as violation_p_value
from .evidence import GROUP_MEASURES as GROUP_MEASURES
from .evidence import audit as audit
from .evidence import write_audit as write_audit
from .figures import fig_confusion as fig_confusion
from .figures import fig_coverage_band as fig_coverage_band
from .figures import fig_groups as fig_groups
from .figures import fig_reliability as fig_reliability
from .figures import fig_risk_coverage as fig_risk_coverage
from .figures import fig_seeds as fig_seeds
from .figures import fig_set_sizes as fig_set_sizes
from .figures import fig_swaps as fig_swaps
from .figures import fig_training as fig_training
from .report import render_report as render_report
from .sheet import agreement as agreement
from .sheet import sheet_of as sheet_of
from .sheet_page import render_sheet as render_sheet
from .card import render_card as render_card
from .publish import write_report as write_report

__all__ = [
    "Analysis",
    "ErrorAnalysis",
    "ErrorAnalyzer",
    "GROUP_MEASURES",
    "Memberships",
    "Subject",
    "VERDICTS",
    "agreement",
    "alarms_of",
    "audit",
    "baselines",
    "by_severity",
    "compare_outcomes",
    "contradicted",
    "curve_of",
    "data_of",
    "day_of",
    "fig_confusion",
    "fig_coverage_band",
    "fig_groups",
    "fig_reliability",
    "fig_risk_coverage",
    "fig_seeds",
    "fig_set_sizes",
    "fig_swaps",
    "fig_training",
    "identity_of",
    "measured",
    "memberships_of",
    "not_evaluated",
    "render_card",
    "render_report",
    "render_sheet",
    "settings_of",
    "share",
    "sheet_of",
    "shift_between",
    "shown_text",
    "subject_of",
    "training_gain",
    "training_of",
    "verdict_of",
    "violation_p_value",
    "write_audit",
    "write_report",
]
