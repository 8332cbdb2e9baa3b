"Written by .ci/doors.py from __init__.py."

from .findings import Analysis as Analysis
from .findings import VERDICTS as VERDICTS
from .findings import by_severity as by_severity
from .findings import measured as measured
from .findings import not_evaluated as not_evaluated
from .findings import share as share
from .findings import verdict_of as verdict_of
from .group_decisions import AbstentionGap as AbstentionGap
from .group_decisions import abstention_gap as abstention_gap
from .group_decisions import threshold_curves as threshold_curves
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
from .baseline import compare_baselines as compare_baselines
from .performance import PerformanceAnalysis as PerformanceAnalysis
from .performance import PerformanceAnalyzer as PerformanceAnalyzer
from .calibration import CalibrationAnalysis as CalibrationAnalysis
from .calibration import CalibrationAnalyzer as CalibrationAnalyzer
from .group_findings import Promise as Promise
from .group_findings import gap_findings as gap_findings
from .group_findings import metric_said as metric_said
from .group_findings import promise_findings as promise_findings
from .fairness import FairnessAnalysis as FairnessAnalysis
from .fairness import FairnessAnalyzer as FairnessAnalyzer
from .alarms import alarms_of as alarms_of
from .alarms import contradicted as contradicted
from .alarms import shift_between as shift_between
from .alarms import violation_p_value as violation_p_value
from .differences import compare_outcomes as compare_outcomes
from .evidence import GROUP_MEASURES as GROUP_MEASURES
from .evidence import measure_run as measure_run
from .bare import measure_bare as measure_bare
from .sheet import agreement as agreement
from .sheet import sheet_of as sheet_of
from .figures import fig_reliability as fig_reliability
from .figures import fig_risk_coverage as fig_risk_coverage
from .figures import fig_set_sizes as fig_set_sizes
from .report import render_report as render_report
from .croissant import croissant_of as croissant_of
from .sheet_page import render_sheet as render_sheet
from .mapping import mapping_of as mapping_of
from .card import render_card as render_card
from .audit import Audit as Audit
from .audit import audit as audit
from .publish import write_report as write_report

__all__ = [
    "AbstentionGap",
    "Analysis",
    "Audit",
    "CalibrationAnalysis",
    "CalibrationAnalyzer",
    "ErrorAnalysis",
    "ErrorAnalyzer",
    "FairnessAnalysis",
    "FairnessAnalyzer",
    "GROUP_MEASURES",
    "Memberships",
    "PerformanceAnalysis",
    "PerformanceAnalyzer",
    "Promise",
    "Subject",
    "VERDICTS",
    "abstention_gap",
    "agreement",
    "alarms_of",
    "audit",
    "baselines",
    "by_severity",
    "compare_baselines",
    "compare_outcomes",
    "contradicted",
    "croissant_of",
    "curve_of",
    "data_of",
    "day_of",
    "fig_reliability",
    "fig_risk_coverage",
    "fig_set_sizes",
    "gap_findings",
    "identity_of",
    "mapping_of",
    "measure_bare",
    "measure_run",
    "measured",
    "memberships_of",
    "metric_said",
    "not_evaluated",
    "promise_findings",
    "render_card",
    "render_report",
    "render_sheet",
    "settings_of",
    "share",
    "sheet_of",
    "shift_between",
    "shown_text",
    "subject_of",
    "threshold_curves",
    "training_gain",
    "training_of",
    "verdict_of",
    "violation_p_value",
    "write_report",
]
