"""Names of what is made in a cluster, after those of Gateways and pools, which may be longer and of more characters.

A name that is good as it is stays; any other ends with a hash of the whole, so that distinct ones stay distinct.
"""

from __future__ import annotations

import re
from hashlib import blake2b

_LONGEST = 63
_HASH_BYTES = 4
# What a Service may be called (RFC 1035, label).
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def label_value(name: str) -> str:
    """Return the value of a label for an object's name: 63 characters at most."""
    return name if len(name) <= _LONGEST else _hashed(name, name)


def service_name(name: str) -> str:
    """Return the name of a Service, and of what is made along with it: a DNS label that begins with a letter."""
    if len(name) <= _LONGEST and _SERVICE_NAME.fullmatch(name):
        return name
    plain = name.replace(".", "-")
    return _hashed(plain if plain[:1].isalpha() else f"x{plain}", name)


def _hashed(shown: str, name: str) -> str:
    digest = blake2b(name.encode(), digest_size=_HASH_BYTES).hexdigest()
    return f"{shown[: _LONGEST - len(digest) - 1].rstrip('-.')}-{digest}"
