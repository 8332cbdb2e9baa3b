"Written by .ci/doors.py from __init__.py."

from .loading import Dataset as Dataset
from .loading import LOADERS as LOADERS
from .loading import csv_rows as csv_rows
from .loading import decode as decode
from .loading import jsonl as jsonl
from .loading import load as load
from .loading import parquet as parquet
from .loading import read_rows as read_rows
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
    "PURPOSES",
    "ROLES",
    "csv_rows",
    "decode",
    "joined_rows",
    "jsonl",
    "load",
    "look_hash",
    "parquet",
    "read_rows",
    "sample",
    "share_out",
    "split_ledger",
    "text_hash",
]
