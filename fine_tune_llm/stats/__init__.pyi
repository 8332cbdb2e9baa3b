"Written by .ci/doors.py from __init__.py."

from .kernels import by_rows as by_rows
from .kernels import compile_times as compile_times
from .kernels import kernel as kernel
from .kernels import readable as readable
from .kernels import threads as threads
from .arrays import MISSING as MISSING
from .arrays import check_labels as check_labels
from .arrays import check_logits as check_logits
from .arrays import check_probs as check_probs
from .arrays import conf_right as conf_right
from .arrays import group_codes as group_codes
from .arrays import group_names as group_names
from .arrays import group_order as group_order
from .arrays import softmax as softmax
from .arrays import top_of_rows as top_of_rows
from .estimator import Estimator as Estimator
from .intervals import Interval as Interval
from .intervals import clopper_pearson as clopper_pearson
from .intervals import newcombe as newcombe
from .intervals import wilson as wilson
from .bounds import Nested as Nested
from .bounds import RISK_TESTS as RISK_TESTS
from .bounds import binomial_p_value as binomial_p_value
from .bounds import hoeffding_bentkus as hoeffding_bentkus
from .bounds import p_value as p_value
from .bounds import risk_bounds as risk_bounds
from .bounds import risk_test as risk_test
from .bounds import rows_that_would_do as rows_that_would_do
from .bounds import upper_bound as upper_bound
from .multiple_testing import CORRECTIONS as CORRECTIONS
from .multiple_testing import bonferroni as bonferroni
from .multiple_testing import fixed_sequence as fixed_sequence
from .multiple_testing import graphical as graphical
from .multiple_testing import holm as holm
from .multiple_testing import holm_rejects as holm_rejects
from .learn_then_test import LearnThenTest as LearnThenTest
from .learn_then_test import RiskCertificate as RiskCertificate
from .row_weights import independence_weights as independence_weights
from .metrics import accuracy as accuracy
from .metrics import balanced_accuracy as balanced_accuracy
from .metrics import brier as brier
from .metrics import confusion as confusion
from .metrics import macro_f1 as macro_f1
from .metrics import nll as nll
from .metrics import top_k_accuracy as top_k_accuracy
from .calibration_error import Murphy as Murphy
from .calibration_error import Reliability as Reliability
from .calibration_error import ace as ace
from .calibration_error import classwise_ece as classwise_ece
from .calibration_error import ece as ece
from .calibration_error import ece_debiased as ece_debiased
from .calibration_error import mce as mce
from .calibration_error import murphy as murphy
from .calibration_error import overconfidence as overconfidence
from .calibration_error import reliability as reliability
from .calibration_error import smooth_ece as smooth_ece
from .calibration_error import underconfidence as underconfidence
from .calibration_tests import CalibrationTest as CalibrationTest
from .calibration_tests import ks_error as ks_error
from .calibration_tests import ks_test as ks_test
from .calibration_tests import kuiper_test as kuiper_test
from .calibration_tests import spiegelhalter_test as spiegelhalter_test
from .selective import RiskCoverage as RiskCoverage
from .selective import auarc as auarc
from .selective import aurc as aurc
from .selective import confidence_auroc as confidence_auroc
from .selective import e_aurc as e_aurc
from .selective import risk_coverage_curve as risk_coverage_curve
from .selective import selective_risk_at as selective_risk_at
from .metric_summary import METRICS as METRICS
from .metric_summary import WATCHED as WATCHED
from .metric_summary import interval as interval
from .metric_summary import summary as summary
from .uncertainty import OutOfScope as OutOfScope
from .uncertainty import SCOPE_SCORES as SCOPE_SCORES
from .uncertainty import auprc as auprc
from .uncertainty import auroc as auroc
from .uncertainty import energy_score as energy_score
from .uncertainty import entropy_score as entropy_score
from .uncertainty import fpr_at_tpr as fpr_at_tpr
from .uncertainty import margin_score as margin_score
from .uncertainty import max_prob_score as max_prob_score
from .uncertainty import mutual_information as mutual_information
from .uncertainty import out_of_scope as out_of_scope
from .streaming import StreamingCalibration as StreamingCalibration
from .calibrators import Calibrator as Calibrator
from .calibrators import Uncalibrated as Uncalibrated
from .temperature import EnsembleTemperature as EnsembleTemperature
from .temperature import TemperatureScaling as TemperatureScaling
from .temperature import best_temperature as best_temperature
from .matrix_scaling import DirichletScaling as DirichletScaling
from .matrix_scaling import VectorScaling as VectorScaling
from .binary_calibration import BetaCalibration as BetaCalibration
from .binary_calibration import HistogramBinning as HistogramBinning
from .binary_calibration import IsotonicCalibration as IsotonicCalibration
from .binary_calibration import PlattScaling as PlattScaling
from .venn_abers import VennAbers as VennAbers
from .calibration import CALIBRATORS as CALIBRATORS
from .calibration import CalibratorChoice as CalibratorChoice
from .calibration import calibrator_from_dict as calibrator_from_dict
from .calibration import fit_if_better as fit_if_better
from .calibration import select_calibrator as select_calibrator
from .scores import SCORES as SCORES
from .scores import aps as aps
from .scores import entropy_adaptive as entropy_adaptive
from .scores import lac as lac
from .scores import margin as margin
from .scores import raps as raps
from .scores import row_uniforms as row_uniforms
from .scores import saps as saps
from .scores import topk as topk
from .sets import PredictionSets as PredictionSets
from .sets import as_sets as as_sets
from .sets import check_sets as check_sets
from .quantiles import check_alpha as check_alpha
from .quantiles import conformal_quantile as conformal_quantile
from .quantiles import conformal_rank as conformal_rank
from .quantiles import coverage as coverage
from .quantiles import coverage_band as coverage_band
from .quantiles import coverage_slack as coverage_slack
from .quantiles import covered as covered
from .quantiles import rows_needed as rows_needed
from .quantiles import set_size as set_size
from .quantiles import set_sizes as set_sizes
from .scorer import Scorer as Scorer
from .conformal_cells import CONDITIONS as CONDITIONS
from .conformal_cells import CellThresholds as CellThresholds
from .conformal import ConformalClassifier as ConformalClassifier
from .cross_conformal import CrossConformal as CrossConformal
from .score_tuning import tune_score as tune_score
from .conditional_coverage import CoverageReport as CoverageReport
from .conditional_coverage import CoverageTable as CoverageTable
from .conditional_coverage import WorstSlab as WorstSlab
from .conditional_coverage import cov_gap as cov_gap
from .conditional_coverage import coverage_by as coverage_by
from .conditional_coverage import coverage_report as coverage_report
from .conditional_coverage import excess_risk as excess_risk
from .conditional_coverage import size_stratified as size_stratified
from .conditional_coverage import worst_gap as worst_gap
from .conditional_coverage import worst_slab as worst_slab
from .conditional_conformal import ConditionalConformal as ConditionalConformal
from .costs import CostMatrix as CostMatrix
from .costs import as_cost as as_cost
from .costs import bayes_decide as bayes_decide
from .costs import expected_cost as expected_cost
from .costs import mean_expected_cost as mean_expected_cost
from .costs import mean_realised_cost as mean_realised_cost
from .costs import realised_cost as realised_cost
from .tail_cost import bounded_mean as bounded_mean
from .tail_cost import cvar as cvar
from .tail_cost import cvar_interval as cvar_interval
from .reweighting import shifted_weights as shifted_weights
from .reweighting import unmixed as unmixed
from .reweighting import worst_in_ball as worst_in_ball
from .reweighting import worst_in_part as worst_in_part
from .reweighting import worst_mix as worst_mix
from .forecast import count_forecast as count_forecast
from .selection import CONFIDENCES as CONFIDENCES
from .selection import decide_at as decide_at
from .selection import threshold_grid as threshold_grid
from .group_thresholds import CONSTRAINTS as CONSTRAINTS
from .group_thresholds import GroupThresholds as GroupThresholds
from .certificates import SelectiveCertificate as SelectiveCertificate
from .certificates import Target as Target
from .selective_classifier import RiskCurve as RiskCurve
from .selective_classifier import SelectiveClassifier as SelectiveClassifier
from .selective_classifier import certificate_curve as certificate_curve
from .selective_classifier import certify as certify
from .selective_classifier import selective_risk as selective_risk
from .scope import NearestRows as NearestRows
from .scope import REFERENCES as REFERENCES
from .scope import RelativeMahalanobis as RelativeMahalanobis
from .scope import SCOPE_PARTS as SCOPE_PARTS
from .scope import ScopeChoice as ScopeChoice
from .scope import ScopeRule as ScopeRule
from .scope import choose_by_outside as choose_by_outside
from .scope import choose_scope_score as choose_scope_score
from .scope import fit_scope_rule as fit_scope_rule
from .risk_control import ConformalRiskControl as ConformalRiskControl
from .risk_control import first_safe as first_safe
from .streams import Alarm as Alarm
from .streams import Monitor as Monitor
from .score_bag import ScoreBag as ScoreBag
from .score_bag import growing_p_values as growing_p_values
from .martingales import COMPOSITE as COMPOSITE
from .martingales import ConformalMartingale as ConformalMartingale
from .martingales import Evidence as Evidence
from .martingales import evidence as evidence
from .risk_monitor import RiskMonitor as RiskMonitor
from .adaptive import ACI as ACI
from .adaptive import ConformalPID as ConformalPID
from .adaptive import DtACI as DtACI
from .adaptive import RollingRiskControl as RollingRiskControl
from .adaptive import rolling_mean as rolling_mean
from .shift import LabelFreeTrigger as LabelFreeTrigger
from .shift import WeightedConformal as WeightedConformal
from .shift import effective_rows as effective_rows
from .shift import weighted_quantile as weighted_quantile
from .late_labels import LateLabels as LateLabels
from .monitors import MONITORS as MONITORS
from .monitors import restore as restore
from .group_columns import NO_GROUP as NO_GROUP
from .groups import GroupCounts as GroupCounts
from .group_metrics import CountedRows as CountedRows
from .group_metrics import GROUP_METRICS as GROUP_METRICS
from .group_metrics import Measure as Measure
from .comparisons import Comparison as Comparison
from .comparisons import Gap as Gap
from .comparisons import GroupRate as GroupRate
from .subgroup_calibration import ClassCalibration as ClassCalibration
from .subgroup_calibration import Multicalibration as Multicalibration
from .subgroup_calibration import class_calibration as class_calibration
from .subgroup_calibration import multicalibration as multicalibration
from .power import detectable_gap as detectable_gap
from .power import rows_for_gap as rows_for_gap
from .fairness import Fairness as Fairness
from .fairness import group_report as group_report
from .confident_learning import LabelErrors as LabelErrors
from .confident_learning import label_errors as label_errors
from .paired import Difference as Difference
from .paired import compare as compare
from .paired import compare_rows as compare_rows
from .subgroup_areas import SubgroupAUC as SubgroupAUC
from .subgroup_areas import subgroup_auc as subgroup_auc
from .audit_plots import ForestRow as ForestRow
from .audit_plots import plot_confusion as plot_confusion
from .audit_plots import plot_coverage_band as plot_coverage_band
from .audit_plots import plot_forest as plot_forest
from .audit_plots import plot_seeds as plot_seeds
from .audit_plots import plot_training as plot_training
from .plots import plot_certificate as plot_certificate
from .plots import plot_confidence as plot_confidence
from .plots import plot_coverage as plot_coverage
from .plots import plot_groups as plot_groups
from .plots import plot_reliability as plot_reliability
from .plots import plot_risk_coverage as plot_risk_coverage
from .plots import plot_rolling_coverage as plot_rolling_coverage
from .plots import plot_sizes as plot_sizes
from .plots import plot_wealth as plot_wealth

__all__ = [
    "ACI",
    "Alarm",
    "BetaCalibration",
    "CALIBRATORS",
    "COMPOSITE",
    "CONDITIONS",
    "CONFIDENCES",
    "CONSTRAINTS",
    "CORRECTIONS",
    "CalibrationTest",
    "Calibrator",
    "CalibratorChoice",
    "CellThresholds",
    "ClassCalibration",
    "Comparison",
    "ConditionalConformal",
    "ConformalClassifier",
    "ConformalMartingale",
    "ConformalPID",
    "ConformalRiskControl",
    "CostMatrix",
    "CountedRows",
    "CoverageReport",
    "CoverageTable",
    "CrossConformal",
    "Difference",
    "DirichletScaling",
    "DtACI",
    "EnsembleTemperature",
    "Estimator",
    "Evidence",
    "Fairness",
    "ForestRow",
    "GROUP_METRICS",
    "Gap",
    "GroupCounts",
    "GroupRate",
    "GroupThresholds",
    "HistogramBinning",
    "Interval",
    "IsotonicCalibration",
    "LabelErrors",
    "LabelFreeTrigger",
    "LateLabels",
    "LearnThenTest",
    "METRICS",
    "MISSING",
    "MONITORS",
    "Measure",
    "Monitor",
    "Multicalibration",
    "Murphy",
    "NO_GROUP",
    "NearestRows",
    "Nested",
    "OutOfScope",
    "PlattScaling",
    "PredictionSets",
    "REFERENCES",
    "RISK_TESTS",
    "RelativeMahalanobis",
    "Reliability",
    "RiskCertificate",
    "RiskCoverage",
    "RiskCurve",
    "RiskMonitor",
    "RollingRiskControl",
    "SCOPE_PARTS",
    "SCOPE_SCORES",
    "SCORES",
    "ScopeChoice",
    "ScopeRule",
    "ScoreBag",
    "Scorer",
    "SelectiveCertificate",
    "SelectiveClassifier",
    "StreamingCalibration",
    "SubgroupAUC",
    "Target",
    "TemperatureScaling",
    "Uncalibrated",
    "VectorScaling",
    "VennAbers",
    "WATCHED",
    "WeightedConformal",
    "WorstSlab",
    "accuracy",
    "ace",
    "aps",
    "as_cost",
    "as_sets",
    "auarc",
    "auprc",
    "aurc",
    "auroc",
    "balanced_accuracy",
    "bayes_decide",
    "best_temperature",
    "binomial_p_value",
    "bonferroni",
    "bounded_mean",
    "brier",
    "by_rows",
    "calibrator_from_dict",
    "certificate_curve",
    "certify",
    "check_alpha",
    "check_labels",
    "check_logits",
    "check_probs",
    "check_sets",
    "choose_by_outside",
    "choose_scope_score",
    "class_calibration",
    "classwise_ece",
    "clopper_pearson",
    "compare",
    "compare_rows",
    "compile_times",
    "conf_right",
    "confidence_auroc",
    "conformal_quantile",
    "conformal_rank",
    "confusion",
    "count_forecast",
    "cov_gap",
    "coverage",
    "coverage_band",
    "coverage_by",
    "coverage_report",
    "coverage_slack",
    "covered",
    "cvar",
    "cvar_interval",
    "decide_at",
    "detectable_gap",
    "e_aurc",
    "ece",
    "ece_debiased",
    "effective_rows",
    "energy_score",
    "entropy_adaptive",
    "entropy_score",
    "evidence",
    "excess_risk",
    "expected_cost",
    "first_safe",
    "fit_if_better",
    "fit_scope_rule",
    "fixed_sequence",
    "fpr_at_tpr",
    "graphical",
    "group_codes",
    "group_names",
    "group_order",
    "group_report",
    "growing_p_values",
    "hoeffding_bentkus",
    "holm",
    "holm_rejects",
    "independence_weights",
    "interval",
    "kernel",
    "ks_error",
    "ks_test",
    "kuiper_test",
    "label_errors",
    "lac",
    "macro_f1",
    "margin",
    "margin_score",
    "max_prob_score",
    "mce",
    "mean_expected_cost",
    "mean_realised_cost",
    "multicalibration",
    "murphy",
    "mutual_information",
    "newcombe",
    "nll",
    "out_of_scope",
    "overconfidence",
    "p_value",
    "plot_certificate",
    "plot_confidence",
    "plot_confusion",
    "plot_coverage",
    "plot_coverage_band",
    "plot_forest",
    "plot_groups",
    "plot_reliability",
    "plot_risk_coverage",
    "plot_rolling_coverage",
    "plot_seeds",
    "plot_sizes",
    "plot_training",
    "plot_wealth",
    "raps",
    "readable",
    "realised_cost",
    "reliability",
    "restore",
    "risk_bounds",
    "risk_coverage_curve",
    "risk_test",
    "rolling_mean",
    "row_uniforms",
    "rows_for_gap",
    "rows_needed",
    "rows_that_would_do",
    "saps",
    "select_calibrator",
    "selective_risk",
    "selective_risk_at",
    "set_size",
    "set_sizes",
    "shifted_weights",
    "size_stratified",
    "smooth_ece",
    "softmax",
    "spiegelhalter_test",
    "subgroup_auc",
    "summary",
    "threads",
    "threshold_grid",
    "top_k_accuracy",
    "top_of_rows",
    "topk",
    "tune_score",
    "underconfidence",
    "unmixed",
    "upper_bound",
    "weighted_quantile",
    "wilson",
    "worst_gap",
    "worst_in_ball",
    "worst_in_part",
    "worst_mix",
    "worst_slab",
]
