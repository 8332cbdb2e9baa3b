"Written by .ci/doors.py from __init__.py."

from .turns import own_turn as own_turn
from .losses import LOSSES as LOSSES
from .losses import balanced_weights as balanced_weights
from .losses import cross_entropy as cross_entropy
from .losses import make_loss as make_loss
from .callbacks import EventPublisher as EventPublisher
from .starting_point import warm_start as warm_start
from .trainer import CalibratedTrainer as CalibratedTrainer
from .trainer import calibration_metrics as calibration_metrics
from .trainer import last_checkpoint as last_checkpoint
from .trainer import train as train

__all__ = [
    "CalibratedTrainer",
    "EventPublisher",
    "LOSSES",
    "balanced_weights",
    "calibration_metrics",
    "cross_entropy",
    "last_checkpoint",
    "make_loss",
    "own_turn",
    "train",
    "warm_start",
]
