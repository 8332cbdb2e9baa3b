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
from .languages import find_language as find_language
from .processors import PROCESSORS as PROCESSORS
from .processors import Chain as Chain
from .fingerprints import joined_rows as joined_rows
from .fingerprints import look_hash as look_hash
from .fingerprints import text_hash as text_hash
from .near_duplicates import near_pairs as near_pairs
from .ledger import Ledger as Ledger
from .ledger import PURPOSES as PURPOSES
from .ledger import ROLES as ROLES
from .ledger import split_ledger as split_ledger
from .sharing import share_out as share_out
from .samples import sample as sample
from .bag_of_words import out_of_fold as out_of_fold
from .bag_of_words import word_features as word_features
from .findings import Finding as Finding
from .findings import Inspected as Inspected
from .findings import Tested as Tested
from .quality import CHECKS as CHECKS
from .quality import Quality as Quality
from .quality import check_data as check_data
from .metadata import croissant as croissant

__all__ = [
    "CHECKS",
    "Chain",
    "Dataset",
    "Finding",
    "Inspected",
    "LOADERS",
    "Ledger",
    "Limits",
    "PROCESSORS",
    "PURPOSES",
    "Quality",
    "ROLES",
    "Records",
    "SourceFacts",
    "Tested",
    "check_data",
    "croissant",
    "csv_rows",
    "decode",
    "find_encoding",
    "find_language",
    "joined_rows",
    "jsonl",
    "load",
    "look_hash",
    "near_pairs",
    "out_of_fold",
    "parquet",
    "read_rows",
    "sample",
    "share_out",
    "split_ledger",
    "text_hash",
    "word_features",
]
