"""Regular expressions as Envoy understands them: RE2 on bytes.

One that Envoy cannot compile would make it refuse the whole route table, so each is tried here first.
"""

from __future__ import annotations

import re
from functools import lru_cache

import re2

LARGEST_PROGRAM = 100
"""Envoy's limit on a compiled expression where its runtime sets no `re2.max_program_size.error_level`."""

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.encoding = re2.Options.Encoding.LATIN1


@lru_cache(maxsize=4096)
def flaw(expression: str) -> str | None:
    """Say what is wrong with an expression, or None."""
    if not expression:
        return "it is empty"
    try:
        compiled = re2.compile(expression.encode(), _OPTIONS)
    except re2.error as error:
        text = error.args[0] if error.args else "invalid"
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    if compiled.programsize > LARGEST_PROGRAM:
        return f"it is too complex for Envoy (program size {compiled.programsize}, of {LARGEST_PROGRAM} at most)"
    return None


@lru_cache(maxsize=4096)
def matches(expression: str, text: str) -> bool:
    """Whether a valid expression matches the whole text."""
    return re2.compile(expression.encode(), _OPTIONS).fullmatch(text.encode()) is not None


def prefix_removal(prefix: str) -> str:
    """Return the expression for a path's prefix and the slashes behind it."""
    return f"^{re.escape(prefix)}/*"


def origin(pattern: str) -> str:
    """Return the expression for the origins that a pattern with "*" in its host means (HTTPCORSFilter.allowOrigins)."""
    # A host's characters only, so that "*" ends where the host does; it stands for any number of labels.
    return "(?i)" + "[a-z0-9.-]+".join(map(re.escape, pattern.split("*")))
