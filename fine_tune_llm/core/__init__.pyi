"Written by .ci/doors.py from __init__.py."

from . import errors as errors
from .printable import code_for_markdown as code_for_markdown
from .printable import cut as cut
from .printable import for_html as for_html
from .printable import for_json as for_json
from .printable import for_markdown as for_markdown
from .printable import for_plot as for_plot
from .printable import for_terminal as for_terminal
from .errors import AdapterError as AdapterError
from .errors import CalibrationError as CalibrationError
from .errors import CallbackError as CallbackError
from .errors import CertificateError as CertificateError
from .errors import CheckpointError as CheckpointError
from .errors import CircuitOpenError as CircuitOpenError
from .errors import ConfigurationError as ConfigurationError
from .errors import ConvergenceError as ConvergenceError
from .errors import DataError as DataError
from .errors import DataLoadingError as DataLoadingError
from .errors import DataValidationError as DataValidationError
from .errors import FineTuneLLMError as FineTuneLLMError
from .errors import IntegrityError as IntegrityError
from .errors import LeakageError as LeakageError
from .errors import MissingDependencyError as MissingDependencyError
from .errors import ModelError as ModelError
from .errors import ModelLoadError as ModelLoadError
from .errors import NotFittedError as NotFittedError
from .errors import OperationTimeoutError as OperationTimeoutError
from .errors import PredictionError as PredictionError
from .errors import ProcessingError as ProcessingError
from .errors import ResourceError as ResourceError
from .errors import RunError as RunError
from .errors import SchemaError as SchemaError
from .errors import SecretError as SecretError
from .errors import ServiceError as ServiceError
from .errors import TrainingError as TrainingError
from .errors import error_table as error_table
from .texts import is_blank as is_blank
from .texts import visible as visible
from .checks import as_fraction as as_fraction
from .checks import check_choice as check_choice
from .checks import check_number as check_number
from .checks import check_seed as check_seed
from .checks import near as near
from .names import as_name as as_name
from .names import name_order as name_order
from .names import natural_order as natural_order
from .redaction import hide as hide
from .redaction import redact as redact
from .logs import adopt_libraries as adopt_libraries
from .logs import capture_logs as capture_logs
from .logs import configure_logging as configure_logging
from .logs import get_logger as get_logger
from .logs import log_context as log_context
from .locks import single_writer as single_writer
from .files import atomic_dir as atomic_dir
from .files import atomic_dirs as atomic_dirs
from .files import atomic_write as atomic_write
from .files import output_stream as output_stream
from .files import read_json as read_json
from .files import sha256_file as sha256_file
from .files import sha256_json as sha256_json
from .files import sha256_tree as sha256_tree
from .files import write_json as write_json
from .registry import Registry as Registry
from .error_counts import ErrorStats as ErrorStats
from .error_counts import error_stats as error_stats
from .error_counts import is_failure as is_failure
from .resilience import CircuitBreaker as CircuitBreaker
from .resilience import full_jitter as full_jitter
from .resilience import retry as retry
from .secrets import SERVICE as SERVICE
from .secrets import Secret as Secret
from .secrets import Vault as Vault
from .secrets import new_key as new_key
from .events import AlertRaised as AlertRaised
from .events import AuditFinished as AuditFinished
from .events import CATEGORIES as CATEGORIES
from .events import DataSplit as DataSplit
from .events import DecisionMade as DecisionMade
from .events import ErrorRaised as ErrorRaised
from .events import Event as Event
from .events import ModelSaved as ModelSaved
from .events import StageFinished as StageFinished
from .events import TrainingEvaluated as TrainingEvaluated
from .events import TrainingStepped as TrainingStepped
from .events import event_line as event_line
from .events import json_safe as json_safe
from .event_bus import EventBus as EventBus
from .event_bus import Subscription as Subscription
from .event_store import EventStore as EventStore
from .event_stats import aggregate as aggregate
from .event_stats import error_analytics as error_analytics

__all__ = [
    "AdapterError",
    "AlertRaised",
    "AuditFinished",
    "CATEGORIES",
    "CalibrationError",
    "CallbackError",
    "CertificateError",
    "CheckpointError",
    "CircuitBreaker",
    "CircuitOpenError",
    "ConfigurationError",
    "ConvergenceError",
    "DataError",
    "DataLoadingError",
    "DataSplit",
    "DataValidationError",
    "DecisionMade",
    "ErrorRaised",
    "ErrorStats",
    "Event",
    "EventBus",
    "EventStore",
    "FineTuneLLMError",
    "IntegrityError",
    "LeakageError",
    "MissingDependencyError",
    "ModelError",
    "ModelLoadError",
    "ModelSaved",
    "NotFittedError",
    "OperationTimeoutError",
    "PredictionError",
    "ProcessingError",
    "Registry",
    "ResourceError",
    "RunError",
    "SERVICE",
    "SchemaError",
    "Secret",
    "SecretError",
    "ServiceError",
    "StageFinished",
    "Subscription",
    "TrainingError",
    "TrainingEvaluated",
    "TrainingStepped",
    "Vault",
    "adopt_libraries",
    "aggregate",
    "as_fraction",
    "as_name",
    "atomic_dir",
    "atomic_dirs",
    "atomic_write",
    "capture_logs",
    "check_choice",
    "check_number",
    "check_seed",
    "code_for_markdown",
    "configure_logging",
    "cut",
    "error_analytics",
    "error_stats",
    "error_table",
    "errors",
    "event_line",
    "for_html",
    "for_json",
    "for_markdown",
    "for_plot",
    "for_terminal",
    "full_jitter",
    "get_logger",
    "hide",
    "is_blank",
    "is_failure",
    "json_safe",
    "log_context",
    "name_order",
    "natural_order",
    "near",
    "new_key",
    "output_stream",
    "read_json",
    "redact",
    "retry",
    "sha256_file",
    "sha256_json",
    "sha256_tree",
    "single_writer",
    "visible",
    "write_json",
]
