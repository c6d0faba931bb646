"""Names and labels of what is made in a cluster, after names that may be longer and of more characters.

A name that is good as it is stays; any other ends with a hash of the whole, so that distinct ones stay distinct.
"""

from __future__ import annotations

import re
from hashlib import blake2b

_LONGEST = 63
_HASH_BYTES = 4
# What a Service may be called (RFC 1035, label).
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# What a label's value may be (apimachinery, validation), and what may not be in it.
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_NO_LABEL_VALUE = re.compile(r"[^A-Za-z0-9_.-]")


def label_value(name: str) -> str:
    """Return the value of a label for a name: 63 characters at most."""
    if len(name) <= _LONGEST and _LABEL_VALUE.fullmatch(name):
        return name
    return _hashed(_NO_LABEL_VALUE.sub("-", name), name)


def service_name(name: str) -> str:
    """Return the name of a Service, and of what is made along with it: a DNS label that begins with a letter."""
    if len(name) <= _LONGEST and _SERVICE_NAME.fullmatch(name):
        return name
    plain = name.replace(".", "-")
    return _hashed(plain if plain[:1].isalpha() else f"x{plain}", name)


def _hashed(shown: str, name: str) -> str:
    digest = blake2b(name.encode(), digest_size=_HASH_BYTES).hexdigest()
    return f"{shown[: _LONGEST - len(digest) - 1].rstrip('-_.')}-{digest}"
