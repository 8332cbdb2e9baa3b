"Written by .ci/doors.py from __init__.py."

from .losses import LOSSES as LOSSES
from .losses import cross_entropy as cross_entropy
from .losses import make_loss as make_loss
from .callbacks import EventPublisher as EventPublisher
from .trainer import CalibratedTrainer as CalibratedTrainer
from .trainer import calibration_metrics as calibration_metrics
from .trainer import evaluation_line as evaluation_line
from .trainer import last_checkpoint as last_checkpoint
from .trainer import native_bf16 as native_bf16
from .trainer import train as train
from .trainer import training_arguments as training_arguments
from .trainer import warm_start as warm_start

__all__ = [
    "CalibratedTrainer",
    "EventPublisher",
    "LOSSES",
    "calibration_metrics",
    "cross_entropy",
    "evaluation_line",
    "last_checkpoint",
    "make_loss",
    "native_bf16",
    "train",
    "training_arguments",
    "warm_start",
]
