"Written by .ci/doors.py from __init__.py."

from .origin import Layer as Layer
from .origin import Origin as Origin
from .origin import merge_settings as merge_settings
from .schema import AuditConfig as AuditConfig
from .schema import CalibrationConfig as CalibrationConfig
from .schema import Config as Config
from .schema import ConformalConfig as ConformalConfig
from .schema import DataConfig as DataConfig
from .schema import LoggingConfig as LoggingConfig
from .schema import LoraSection as LoraSection
from .schema import LossConfig as LossConfig
from .schema import ModelConfig as ModelConfig
from .schema import PromptConfig as PromptConfig
from .schema import MonitoringConfig as MonitoringConfig
from .schema import RiskConfig as RiskConfig
from .schema import RiskTarget as RiskTarget
from .schema import Section as Section
from .schema import TrainingConfig as TrainingConfig
from .schema import config_schema as config_schema
from .schema import settings_table as settings_table
from .machine import Machine as Machine
from .machine import free_cores as free_cores
from .machine import this_machine as this_machine
from .layers import PRESETS as PRESETS
from .layers import cli_layer as cli_layer
from .layers import env_layer as env_layer
from .layers import make_config as make_config
from .layers import preset_layer as preset_layer
from .files import file_layers as file_layers
from .files import load_config as load_config
from .files import save_config as save_config
from .resolve import resolve_config as resolve_config
from .history import History as History
from .history import Version as Version
from .history import config_diff as config_diff
from .manager import ConfigManager as ConfigManager

__all__ = [
    "AuditConfig",
    "CalibrationConfig",
    "Config",
    "ConfigManager",
    "ConformalConfig",
    "DataConfig",
    "History",
    "Layer",
    "LoggingConfig",
    "LoraSection",
    "LossConfig",
    "Machine",
    "ModelConfig",
    "MonitoringConfig",
    "Origin",
    "PRESETS",
    "PromptConfig",
    "RiskConfig",
    "RiskTarget",
    "Section",
    "TrainingConfig",
    "Version",
    "cli_layer",
    "config_diff",
    "config_schema",
    "env_layer",
    "file_layers",
    "free_cores",
    "load_config",
    "make_config",
    "merge_settings",
    "preset_layer",
    "resolve_config",
    "save_config",
    "settings_table",
    "this_machine",
]
