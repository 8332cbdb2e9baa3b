"Written by .ci/doors.py from __init__.py."

from .findings import Analysis as Analysis
from .findings import VERDICTS as VERDICTS
from .findings import by_severity as by_severity
from .findings import measured as measured
from .findings import not_evaluated as not_evaluated
from .findings import share as share
from .findings import verdict_of as verdict_of
from .answers import Answers as Answers
from .answers import ask as ask
from .answers import changes as changes
from .answers import mean_shift as mean_shift
from .answers import net_change as net_change
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
from .association import NamedGroups as NamedGroups
from .association import associated as associated
from .association import disagreement_of as disagreement_of
from .association import named_groups as named_groups
from .association import represented as represented
from .bias import BiasAnalysis as BiasAnalysis
from .bias import BiasAuditor as BiasAuditor
from .bias import behaviour_of as behaviour_of
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
    "Answers",
    "BiasAnalysis",
    "BiasAuditor",
    "Case",
    "CaseResults",
    "Cases",
    "Directional",
    "GROUP_MEASURES",
    "INJECTIONS",
    "IdentityTerms",
    "Memberships",
    "NamedGroups",
    "PERTURBATIONS",
    "PERTURBED",
    "Subject",
    "Trial",
    "VERDICTS",
    "alarms_of",
    "ask",
    "associated",
    "audit",
    "baselines",
    "behaviour_of",
    "by_severity",
    "changes",
    "compare_outcomes",
    "contradicted",
    "disagreement_of",
    "fig_reliability",
    "fig_risk_coverage",
    "fig_set_sizes",
    "inject",
    "judge",
    "judge_cases",
    "load_terms",
    "mean_shift",
    "measured",
    "memberships_of",
    "named_groups",
    "net_change",
    "not_evaluated",
    "perturb",
    "render_card",
    "render_report",
    "represented",
    "run_cases",
    "share",
    "shift_between",
    "subject_of",
    "training_gain",
    "verdict_of",
    "violation_p_value",
    "write_audit",
    "write_report",
]
