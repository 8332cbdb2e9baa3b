"Written by .ci/doors.py from __init__.py."

from .sources import Limits as Limits
from .sources import decode as decode
from .sources import find_encoding as find_encoding
from .records import Records as Records
from .arrow import arrow_rows as arrow_rows
from .arrow import dataset_rows as dataset_rows
from .arrow import parquet as parquet
from .reading import csv_rows as csv_rows
from .reading import jsonl as jsonl
from .tables import database_rows as database_rows
from .tables import folder_rows as folder_rows
from .tables import sqlite_rows as sqlite_rows
from .tables import workbook as workbook
from .rows import LOADERS as LOADERS
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

__all__ = [
    "Dataset",
    "LOADERS",
    "Ledger",
    "Limits",
    "PURPOSES",
    "ROLES",
    "Records",
    "SourceFacts",
    "arrow_rows",
    "csv_rows",
    "database_rows",
    "dataset_rows",
    "decode",
    "find_encoding",
    "folder_rows",
    "joined_rows",
    "jsonl",
    "load",
    "look_hash",
    "parquet",
    "read_rows",
    "sample",
    "share_out",
    "split_ledger",
    "sqlite_rows",
    "text_hash",
    "workbook",
]
