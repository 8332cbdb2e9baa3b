"Written by .ci/doors.py from __init__.py."

from .sources import Limits as Limits
from .sources import decode as decode
from .sources import find_encoding as find_encoding
from .records import Records as Records
from .reading import LOADERS as LOADERS
from .reading import csv_rows as csv_rows
from .reading import jsonl as jsonl
from .reading import parquet as parquet
from .rows import SourceFacts as SourceFacts
from .rows import read_rows as read_rows
from .loading import Dataset as Dataset
from .loading import load as load
from .fingerprints import joined_rows as joined_rows
from .fingerprints import look_hash as look_hash
from .fingerprints import text_hash as text_hash
from .ledger import Ledger as Ledger
from .ledger import PURPOSES as PURPOSES
from .ledger import ROLES as ROLES
from .ledger import split_ledger as split_ledger
from .sharing import share_out as share_out
from .samples import sample as sample
from .frame import Frame as Frame
from .frame import frame_schema as frame_schema
from .frame import read_frame as read_frame
from .templates import around_text as around_text
from .templates import chat_template as chat_template
from .prompts import Example as Example
from .prompts import LabelPrompt as LabelPrompt
from .conversion import Conversion as Conversion
from .conversion import convert as convert
from .row_files import convert_file as convert_file

__all__ = [
    "Conversion",
    "Dataset",
    "Example",
    "Frame",
    "LOADERS",
    "LabelPrompt",
    "Ledger",
    "Limits",
    "PURPOSES",
    "ROLES",
    "Records",
    "SourceFacts",
    "around_text",
    "chat_template",
    "convert",
    "convert_file",
    "csv_rows",
    "decode",
    "find_encoding",
    "frame_schema",
    "joined_rows",
    "jsonl",
    "load",
    "look_hash",
    "parquet",
    "read_frame",
    "read_rows",
    "sample",
    "share_out",
    "split_ledger",
    "text_hash",
]
