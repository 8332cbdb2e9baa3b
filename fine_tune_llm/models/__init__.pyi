"Written by .ci/doors.py from __init__.py."

from .catalogue import CATALOGUE as CATALOGUE
from .catalogue import Entry as Entry
from .hub import Source as Source
from .hub import find_model as find_model
from .hub import quiet as quiet
from .weights import check_model as check_model
from .weights import find_device as find_device
from .head import PooledClassifier as PooledClassifier
from .head import pool as pool
from .onnx import OnnxClassifier as OnnxClassifier
from .onnx import export_onnx as export_onnx
from .onnx import load_onnx as load_onnx
from .lengths import choose_length as choose_length
from .lengths import text_lengths as text_lengths
from .lengths import token_limit as token_limit
from .text_model import MemoryNeed as MemoryNeed
from .text_model import TextModel as TextModel
from .text_model import bytes_to_train as bytes_to_train
from .text_model import check_targets as check_targets
from .text_model import load_adapter as load_adapter
from .text_model import load_merged as load_merged
from .text_model import load_model as load_model
from .text_model import memory_needed as memory_needed

__all__ = [
    "CATALOGUE",
    "Entry",
    "MemoryNeed",
    "OnnxClassifier",
    "PooledClassifier",
    "Source",
    "TextModel",
    "bytes_to_train",
    "check_model",
    "check_targets",
    "choose_length",
    "export_onnx",
    "find_device",
    "find_model",
    "load_adapter",
    "load_merged",
    "load_model",
    "load_onnx",
    "memory_needed",
    "pool",
    "quiet",
    "text_lengths",
    "token_limit",
]
