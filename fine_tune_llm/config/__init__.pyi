"Written by .ci/doors.py from __init__.py."

from .schema import AuditConfig as AuditConfig
from .schema import CalibrationConfig as CalibrationConfig
from .schema import Config as Config
from .schema import ConformalConfig as ConformalConfig
from .schema import DataConfig as DataConfig
from .schema import Layer as Layer
from .schema import LoggingConfig as LoggingConfig
from .schema import LoraSection as LoraSection
from .schema import LossConfig as LossConfig
from .schema import ModelConfig as ModelConfig
from .schema import MonitoringConfig as MonitoringConfig
from .schema import Origin as Origin
from .schema import RiskConfig as RiskConfig
from .schema import Section as Section
from .schema import TrainingConfig as TrainingConfig
from .schema import config_schema as config_schema
from .schema import merge as merge
from .schema import settings_table as settings_table
from .machine import Machine as Machine
from .machine import memory_needed as memory_needed
from .layers import MAX_SAID as MAX_SAID
from .layers import PRESETS as PRESETS
from .layers import cli_layer as cli_layer
from .layers import env_layer as env_layer
from .layers import make_config as make_config
from .layers import preset_layer as preset_layer
from .files import MAX_BYTES as MAX_BYTES
from .files import MAX_DEPTH as MAX_DEPTH
from .files import MAX_FILES as MAX_FILES
from .files import file_layers as file_layers
from .files import load_config as load_config
from .files import save_config as save_config
from .resolve import resolve_config as resolve_config
from .manager import ConfigManager as ConfigManager
from .manager import History as History
from .manager import Version as Version
from .manager import config_diff as config_diff
from .manager import configured as configured
from .manager import using as using

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
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_FILES",
    "MAX_SAID",
    "Machine",
    "ModelConfig",
    "MonitoringConfig",
    "Origin",
    "PRESETS",
    "RiskConfig",
    "Section",
    "TrainingConfig",
    "Version",
    "cli_layer",
    "config_diff",
    "config_schema",
    "configured",
    "env_layer",
    "file_layers",
    "load_config",
    "make_config",
    "memory_needed",
    "merge",
    "preset_layer",
    "resolve_config",
    "save_config",
    "settings_table",
    "using",
]
