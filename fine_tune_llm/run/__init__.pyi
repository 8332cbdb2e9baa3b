"Written by .ci/doors.py from __init__.py."

from .roles import share_data as share_data
from .classifier import CertifiedClassifier as CertifiedClassifier
from .classifier import fit_classifier as fit_classifier
from .certificate import derive_certificate as derive_certificate
from .certificate import promises as promises
from .recertify import FAMILY as FAMILY
from .recertify import recertified as recertified
from .deciding import decide_each as decide_each
from .directory import Run as Run
from .directory import decide as decide
from .directory import read_events as read_events
from .file_decisions import Tally as Tally
from .file_decisions import decide_file as decide_file
from .export import export_run as export_run
from .signature import load_signed as load_signed
from .signature import make_key as make_key
from .signature import sign_run as sign_run
from .signature import verify_run as verify_run
from .journey import PREDICTED_FOR as PREDICTED_FOR
from .journey import fit as fit
from .manager import ModelManager as ModelManager
from .manager import Registered as Registered
from .manager import model_bytes as model_bytes
from .members import member_seeds as member_seeds
from .members import train_members as train_members
from .tuning import LearningRows as LearningRows
from .tuning import SuspiciousLabel as SuspiciousLabel
from .tuning import learning_rows as learning_rows
from .tuning import save_best as save_best
from .tuning import suspicious_labels as suspicious_labels
from .tuning import tune_data as tune_data

__all__ = [
    "CertifiedClassifier",
    "FAMILY",
    "LearningRows",
    "ModelManager",
    "PREDICTED_FOR",
    "Registered",
    "Run",
    "SuspiciousLabel",
    "Tally",
    "decide",
    "decide_each",
    "decide_file",
    "derive_certificate",
    "export_run",
    "fit",
    "fit_classifier",
    "learning_rows",
    "load_signed",
    "make_key",
    "member_seeds",
    "model_bytes",
    "promises",
    "read_events",
    "recertified",
    "save_best",
    "share_data",
    "sign_run",
    "suspicious_labels",
    "train_members",
    "tune_data",
    "verify_run",
]
