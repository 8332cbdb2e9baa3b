"Written by .ci/doors.py from __init__.py."

from .catalogue import CATALOGUE as CATALOGUE
from .catalogue import Entry as Entry
from .catalogue import catalogue_table as catalogue_table
from .gguf_cache import cache_folder as cache_folder
from .gguf_cache import converted_model as converted_model
from .hub import Source as Source
from .hub import find_model as find_model
from .hub import quiet as quiet
from .adapter_files import load_adapter_into as load_adapter_into
from .adapter_files import save_adapter as save_adapter
from .adapters import ADAPTERS as ADAPTERS
from .adapters import attach as attach
from .adapters import fold as fold
from .lora_manager import LoRAManager as LoRAManager
from .weights import check_model as check_model
from .weights import find_device as find_device
from .head import PooledClassifier as PooledClassifier
from .head import pool as pool
from .onnx import OnnxClassifier as OnnxClassifier
from .onnx import export_onnx as export_onnx
from .onnx import load_onnx as load_onnx
from .prompts import PromptTokens as PromptTokens
from .prompts import render_prompt as render_prompt
from .prompts import tokenize_begun as tokenize_begun
from .prompts import tokenize_prompt as tokenize_prompt
from .prompts import tokenize_texts as tokenize_texts
from .label_tokens import LabelTokenClassifier as LabelTokenClassifier
from .responses import supervised_rows as supervised_rows
from .lengths import choose_length as choose_length
from .lengths import text_lengths as text_lengths
from .lengths import token_limit as token_limit
from .memory import MemoryNeed as MemoryNeed
from .memory import bytes_to_train as bytes_to_train
from .memory import kept_for_backward as kept_for_backward
from .memory import memory_needed as memory_needed
from .text_model import TextModel as TextModel
from .text_model import check_targets as check_targets
from .text_model import load_adapter as load_adapter
from .text_model import load_merged as load_merged
from .text_model import load_model as load_model
from .ensembles import AdapterEnsemble as AdapterEnsemble
from .ensembles import EnsembleClassifier as EnsembleClassifier
from .ensembles import dropout_logits as dropout_logits
from .ensembles import ensemble as ensemble
from .ensembles import load_trained as load_trained
from .ensembles import log_mean_probs as log_mean_probs

__all__ = [
    "ADAPTERS",
    "AdapterEnsemble",
    "CATALOGUE",
    "EnsembleClassifier",
    "Entry",
    "LabelTokenClassifier",
    "LoRAManager",
    "MemoryNeed",
    "OnnxClassifier",
    "PooledClassifier",
    "PromptTokens",
    "Source",
    "TextModel",
    "attach",
    "bytes_to_train",
    "cache_folder",
    "catalogue_table",
    "check_model",
    "check_targets",
    "choose_length",
    "converted_model",
    "dropout_logits",
    "ensemble",
    "export_onnx",
    "find_device",
    "find_model",
    "fold",
    "kept_for_backward",
    "load_adapter",
    "load_adapter_into",
    "load_merged",
    "load_model",
    "load_onnx",
    "load_trained",
    "log_mean_probs",
    "memory_needed",
    "pool",
    "quiet",
    "render_prompt",
    "save_adapter",
    "supervised_rows",
    "text_lengths",
    "token_limit",
    "tokenize_begun",
    "tokenize_prompt",
    "tokenize_texts",
]
