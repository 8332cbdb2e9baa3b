"Written by .ci/doors.py from __init__.py."

from .sources import Limits as Limits
from .encodings import decode as decode
from .encodings import find_encoding as find_encoding
from .quarantine import Quarantine as Quarantine
from .spill import Column as Column
from .records import Records as Records
from .arrow import arrow_rows as arrow_rows
from .arrow import dataset_rows as dataset_rows
from .arrow import parquet as parquet
from .csv_files import csv_rows as csv_rows
from .json_files import jsonl as jsonl
from .tables import database_rows as database_rows
from .tables import folder_rows as folder_rows
from .tables import sqlite_rows as sqlite_rows
from .tables import workbook as workbook
from .rows import LOADERS as LOADERS
from .rows import SourceFacts as SourceFacts
from .rows import read_rows as read_rows
from .schema import Schema as Schema
from .dataset import Dataset as Dataset
from .loading import load as load
from .languages import find_language as find_language
from .processors import PROCESSORS as PROCESSORS
from .processors import Chain as Chain
from .fingerprints import joined_rows as joined_rows
from .fingerprints import look_hash as look_hash
from .fingerprints import text_hash as text_hash
from .near_duplicates import near_pairs as near_pairs
from .augmentation import AUGMENTERS as AUGMENTERS
from .augmentation import altered_copies as altered_copies
from .ledger import Ledger as Ledger
from .ledger import PURPOSES as PURPOSES
from .ledger import ROLES as ROLES
from .splitting import split_ledger as split_ledger
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
from .bag_of_words import out_of_fold as out_of_fold
from .bag_of_words import word_features as word_features
from .findings import Finding as Finding
from .findings import Inspected as Inspected
from .findings import Tested as Tested
from .quality import CHECKS as CHECKS
from .quality import Quality as Quality
from .quality import check_data as check_data
from .metadata import check_croissant as check_croissant
from .metadata import croissant as croissant

__all__ = [
    "AUGMENTERS",
    "CHECKS",
    "Chain",
    "Column",
    "Conversion",
    "Dataset",
    "Example",
    "Finding",
    "Frame",
    "Inspected",
    "LOADERS",
    "LabelPrompt",
    "Ledger",
    "Limits",
    "PROCESSORS",
    "PURPOSES",
    "Quality",
    "Quarantine",
    "ROLES",
    "Records",
    "Schema",
    "SourceFacts",
    "Tested",
    "altered_copies",
    "around_text",
    "arrow_rows",
    "chat_template",
    "check_croissant",
    "check_data",
    "convert",
    "convert_file",
    "croissant",
    "csv_rows",
    "database_rows",
    "dataset_rows",
    "decode",
    "find_encoding",
    "find_language",
    "folder_rows",
    "frame_schema",
    "joined_rows",
    "jsonl",
    "load",
    "look_hash",
    "near_pairs",
    "out_of_fold",
    "parquet",
    "read_frame",
    "read_rows",
    "sample",
    "share_out",
    "split_ledger",
    "sqlite_rows",
    "text_hash",
    "word_features",
    "workbook",
]
