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
from .group_decisions import abstention_gap as abstention_gap
from .group_decisions import threshold_curves as threshold_curves
from .group_decisions import GapChange as GapChange
from .group_decisions import gap_change as gap_change
from .provenance import curve_of as curve_of
from .provenance import data_of as data_of
from .provenance import day_of as day_of
from .provenance import identity_of as identity_of
from .provenance import settings_of as settings_of
from .provenance import training_of as training_of
from .answers import Answers as Answers
from .answers import ask as ask
from .answers import changes as changes
from .answers import mean_shift as mean_shift
from .answers import net_change as net_change
from .decision_costs import cost_report as cost_report
from .decision_costs import critical_report as critical_report
from .errors import ErrorAnalysis as ErrorAnalysis
from .errors import ErrorAnalyzer as ErrorAnalyzer
from .errors import shown_text as shown_text
from .terms import IdentityTerms as IdentityTerms
from .terms import load_terms as load_terms
from .perturbations import INJECTIONS as INJECTIONS
from .perturbations import PERTURBATIONS as PERTURBATIONS
from .perturbations import PERTURBED as PERTURBED
from .perturbations import Directional as Directional
from .perturbations import Trial as Trial
from .perturbations import inject as inject
from .perturbations import judge as judge
from .perturbations import perturb as perturb
from .cases import Case as Case
from .cases import CaseResults as CaseResults
from .cases import Cases as Cases
from .cases import judge_cases as judge_cases
from .cases import run_cases as run_cases
from .register import RiskEntry as RiskEntry
from .register import known_hazards as known_hazards
from .register import merge_registers as merge_registers
from .register import read_register as read_register
from .register import register_of as register_of
from .register import register_to_yaml as register_to_yaml
from .association import NamedGroups as NamedGroups
from .association import associated as associated
from .association import disagreement_of as disagreement_of
from .association import named_groups as named_groups
from .association import represented as represented
from .bias import BiasAnalysis as BiasAnalysis
from .bias import BiasAuditor as BiasAuditor
from .bias import behaviour_of as behaviour_of
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
from .stress import StressAnalysis as StressAnalysis
from .stress import StressTest as StressTest
from .differences import compare_outcomes as compare_outcomes
from .risk import RiskAnalysis as RiskAnalysis
from .risk import RiskAssessment as RiskAssessment
from .evidence import measure_run as measure_run
from .mitigation import measure_change as measure_change
from .mitigation import measure_mitigations as measure_mitigations
from .bare import measure_bare as measure_bare
from .number_names import NumberKind as NumberKind
from .number_names import named_numbers as named_numbers
from .number_names import number_kinds as number_kinds
from .number_names import numbers_table as numbers_table
from .sheet import agreement as agreement
from .sheet import sheet_of as sheet_of
from .figures import fig_reliability as fig_reliability
from .figures import fig_risk_coverage as fig_risk_coverage
from .figures import fig_set_sizes as fig_set_sizes
from .figures import fig_confusion as fig_confusion
from .figures import fig_coverage as fig_coverage
from .figures import fig_groups as fig_groups
from .figures import fig_seeds as fig_seeds
from .figures import fig_swaps as fig_swaps
from .figures import fig_training as fig_training
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
from .report import render_report as render_report
from .report import report_fragment as report_fragment
from .markdown import render_markdown as render_markdown
from .sheet_page import render_sheet as render_sheet
from .croissant import croissant_of as croissant_of
from .mapping import mapping_of as mapping_of
from .schema import audit_schema as audit_schema
from .schema import check_evidence as check_evidence
from .card import render_card as render_card
from .prediction_tables import later_outcome as later_outcome
from .prediction_tables import read_predictions as read_predictions
from .auditing import Audit as Audit
from .auditing import audit as audit

__all__ = [
    "Aggregate",
    "Analysis",
    "Answers",
    "Audit",
    "AuditDiff",
    "BiasAnalysis",
    "BiasAuditor",
    "CalibrationAnalysis",
    "CalibrationAnalyzer",
    "Case",
    "CaseResults",
    "Cases",
    "Directional",
    "ErrorAnalysis",
    "ErrorAnalyzer",
    "FLIP_LIMIT",
    "FairnessAnalysis",
    "FairnessAnalyzer",
    "GapChange",
    "Gate",
    "GateResult",
    "INJECTIONS",
    "IdentityTerms",
    "Memberships",
    "NamedGroups",
    "NumberDiff",
    "NumberKind",
    "PERTURBATIONS",
    "PERTURBED",
    "PerformanceAnalysis",
    "PerformanceAnalyzer",
    "Promise",
    "RiskAnalysis",
    "RiskAssessment",
    "RiskEntry",
    "StressAnalysis",
    "StressTest",
    "Subject",
    "Trial",
    "VERDICTS",
    "abstention_gap",
    "aggregate",
    "agreement",
    "alarms_of",
    "ask",
    "associated",
    "audit",
    "audit_schema",
    "baselines",
    "behaviour_of",
    "by_severity",
    "changes",
    "check_evidence",
    "check_gates",
    "compare_baselines",
    "compare_outcomes",
    "contradicted",
    "cost_report",
    "critical_report",
    "croissant_of",
    "curve_of",
    "data_of",
    "day_of",
    "diff_evidence",
    "disagreement_of",
    "fig_confusion",
    "fig_coverage",
    "fig_groups",
    "fig_reliability",
    "fig_risk_coverage",
    "fig_seeds",
    "fig_set_sizes",
    "fig_swaps",
    "fig_training",
    "gap_change",
    "gap_findings",
    "gates_of",
    "gates_pass",
    "identity_of",
    "inject",
    "judge",
    "judge_cases",
    "known_hazards",
    "later_outcome",
    "load_terms",
    "mapping_of",
    "mean_shift",
    "measure_bare",
    "measure_change",
    "measure_mitigations",
    "measure_run",
    "measured",
    "memberships_of",
    "merge_registers",
    "metric_said",
    "named_groups",
    "named_numbers",
    "net_change",
    "not_evaluated",
    "number_kinds",
    "numbers_table",
    "over_runs",
    "parse_gate",
    "perturb",
    "promise_findings",
    "read_gates",
    "read_predictions",
    "read_register",
    "register_of",
    "register_to_yaml",
    "render_card",
    "render_markdown",
    "render_report",
    "render_sheet",
    "report_fragment",
    "represented",
    "run_cases",
    "seeds_of",
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
]
