"Written by .ci/doors.py from __init__.py."

from .loading import Dataset as Dataset
from .loading import LOADERS as LOADERS
from .loading import csv_rows as csv_rows
from .loading import decode as decode
from .loading import jsonl as jsonl
from .loading import load as load
from .loading import parquet as parquet
from .loading import read_rows as read_rows
from .ledger import Ledger as Ledger
from .ledger import PURPOSES as PURPOSES
from .ledger import ROLES as ROLES
from .ledger import split_ledger as split_ledger
from .ledger import text_hash as text_hash
from .samples import sample as sample

__all__ = [
    "Dataset",
    "LOADERS",
    "Ledger",
    "PURPOSES",
    "ROLES",
    "csv_rows",
    "decode",
    "jsonl",
    "load",
    "parquet",
    "read_rows",
    "sample",
    "split_ledger",
    "text_hash",
]
