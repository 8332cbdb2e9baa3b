"Written by .ci/doors.py from __init__.py."

from .sources import Limits as Limits
from .sources import decode as decode
from .sources import find_encoding as find_encoding
from .quarantine import Quarantine as Quarantine
from .spill import Column as Column
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

__all__ = [
    "Column",
    "Dataset",
    "LOADERS",
    "Ledger",
    "Limits",
    "PURPOSES",
    "Quarantine",
    "ROLES",
    "Records",
    "SourceFacts",
    "csv_rows",
    "decode",
    "find_encoding",
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
