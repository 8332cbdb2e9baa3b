"Written by .ci/doors.py from __init__.py."

from .turns import own_turn as own_turn
from .row_losses import Traits as Traits
from .row_losses import cross_entropy as cross_entropy
from .row_losses import payoff_from_costs as payoff_from_costs
from .row_losses import with_traits as with_traits
from .losses import LOSSES as LOSSES
from .losses import ComposedLoss as ComposedLoss
from .losses import balanced_weights as balanced_weights
from .losses import make_loss as make_loss
from .losses import try_loss as try_loss
from .callbacks import EventPublisher as EventPublisher
from .starting_point import HeadStart as HeadStart
from .starting_point import warm_start as warm_start
from .strategies import STRATEGIES as STRATEGIES
from .strategies import Outset as Outset
from .strategies import Strategy as Strategy
from .strategies import make_strategies as make_strategies
from .strategies import scale_learning_rate as scale_learning_rate
from .watch import EvaluationWatch as EvaluationWatch
from .watch import calibration_metrics as calibration_metrics
from .checkpoints import Checkpoint as Checkpoint
from .checkpoints import CheckpointManager as CheckpointManager
from .resuming import ResumableTrainer as ResumableTrainer
from .resuming import SaveEvery as SaveEvery
from .trainer import CalibratedTrainer as CalibratedTrainer
from .recipe import train as train
from .tuning import Trial as Trial
from .tuning import Tuning as Tuning
from .tuning import check_space as check_space
from .tuning import tune as tune
from .cross_fitting import CrossFit as CrossFit
from .cross_fitting import cross_fit as cross_fit
from .cross_fitting import deal_folds as deal_folds

__all__ = [
    "CalibratedTrainer",
    "Checkpoint",
    "CheckpointManager",
    "ComposedLoss",
    "CrossFit",
    "EvaluationWatch",
    "EventPublisher",
    "HeadStart",
    "LOSSES",
    "Outset",
    "ResumableTrainer",
    "STRATEGIES",
    "SaveEvery",
    "Strategy",
    "Traits",
    "Trial",
    "Tuning",
    "balanced_weights",
    "calibration_metrics",
    "check_space",
    "cross_entropy",
    "cross_fit",
    "deal_folds",
    "make_loss",
    "make_strategies",
    "own_turn",
    "payoff_from_costs",
    "scale_learning_rate",
    "train",
    "try_loss",
    "tune",
    "warm_start",
    "with_traits",
]
