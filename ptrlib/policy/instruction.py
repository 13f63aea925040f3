"""Instructions as word identifiers: a stable hash, so that no vocabulary has to be built or stored."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from ptrlib.config import NetworkConfig

PADDING = 0


def hash_words(instruction: str, length: int = NetworkConfig.instruction_length) -> NDArray[np.int64]:
    """Identifiers (length,) of the instruction's words: a 63-bit hash each, then ``PADDING``.

    Case and punctuation are dropped, words past ``length`` are cut; letters of any script count (a sentence
    without spaces is one word). The hash is the same on every machine and Python version; the network folds it
    into its own number of buckets.
    """
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", instruction).lower())[:length]
    identifiers = np.full(length, PADDING, dtype=np.int64)
    identifiers[:len(words)] = [_hash(word) for word in words]
    return identifiers


def _hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % (2**63 - 1) + 1  # never PADDING
