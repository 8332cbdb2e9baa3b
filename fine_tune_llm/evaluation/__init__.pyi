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
from .alarms import alarms_of as alarms_of
from .alarms import contradicted as contradicted
from .alarms import shift_between as shift_between
from .alarms import violation_p_value as violation_p_value
from .number_names import NumberKind as NumberKind
from .number_names import named_numbers as named_numbers
from .number_names import number_kinds as number_kinds
from .number_names import numbers_table as numbers_table
from .gates import Gate as Gate
from .gates import GateResult as GateResult
from .gates import check_gates as check_gates
from .gates import gates_of as gates_of
from .gates import gates_pass as gates_pass
from .gates import parse_gate as parse_gate
from .gates import read_gates as read_gates
from .diff import AuditDiff as AuditDiff
from .diff import NumberDiff as NumberDiff
from .diff import diff_evidence as diff_evidence
from .aggregation import Aggregate as Aggregate
from .aggregation import FLIP_LIMIT as FLIP_LIMIT
from .aggregation import aggregate as aggregate
from .aggregation import over_runs as over_runs
from .aggregation import seeds_of as seeds_of
from .evidence import GROUP_MEASURES as GROUP_MEASURES
from .evidence import measure_run as measure_run
from .bare import measure_bare as measure_bare
from .figures import fig_reliability as fig_reliability
from .figures import fig_risk_coverage as fig_risk_coverage
from .figures import fig_set_sizes as fig_set_sizes
from .report import render_report as render_report
from .croissant import croissant_of as croissant_of
from .mapping import mapping_of as mapping_of
from .schema import audit_schema as audit_schema
from .schema import check_evidence as check_evidence
from .card import render_card as render_card
from .prediction_tables import later_outcome as later_outcome
from .prediction_tables import read_predictions as read_predictions
from .audit import Audit as Audit
from .audit import audit as audit
from .publish import write_report as write_report

__all__ = [
    "Aggregate",
    "Analysis",
    "Audit",
    "AuditDiff",
    "FLIP_LIMIT",
    "GROUP_MEASURES",
    "Gate",
    "GateResult",
    "Memberships",
    "NumberDiff",
    "NumberKind",
    "Subject",
    "VERDICTS",
    "aggregate",
    "alarms_of",
    "audit",
    "audit_schema",
    "baselines",
    "by_severity",
    "check_evidence",
    "check_gates",
    "compare_outcomes",
    "contradicted",
    "croissant_of",
    "diff_evidence",
    "fig_reliability",
    "fig_risk_coverage",
    "fig_set_sizes",
    "gates_of",
    "gates_pass",
    "later_outcome",
    "mapping_of",
    "measure_bare",
    "measure_run",
    "measured",
    "memberships_of",
    "named_numbers",
    "not_evaluated",
    "number_kinds",
    "numbers_table",
    "over_runs",
    "parse_gate",
    "read_gates",
    "read_predictions",
    "render_card",
    "render_report",
    "seeds_of",
    "share",
    "shift_between",
    "subject_of",
    "training_gain",
    "verdict_of",
    "violation_p_value",
    "write_report",
]
