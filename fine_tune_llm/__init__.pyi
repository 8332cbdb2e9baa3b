"Written by .ci/doors.py from __init__.py."

from . import core as core
from . import config as config
from . import stats as stats
from . import predictions as predictions
from . import data as data
from . import models as models
from . import training as training
from . import inference as inference
from . import run as run
from . import evaluation as evaluation
from . import cli as cli
from .run.journey import fit as fit
from .run.directory import Run as Run
from .run.directory import decide as decide
from .data.loading import load as load
from .evaluation.auditing import audit as audit
from .predictions import Predictions as Predictions
from .config.schema import Config as Config
from .core import errors as errors

__all__ = [
    "Config",
    "Predictions",
    "Run",
    "audit",
    "cli",
    "config",
    "core",
    "data",
    "decide",
    "errors",
    "evaluation",
    "fit",
    "inference",
    "load",
    "models",
    "predictions",
    "run",
    "stats",
    "training",
]
