"""RequestHeaderModifier and ResponseHeaderModifier: headers that are removed, set, or get a value more.

Envoy's router does it, after all filters: what pickers and the log see is the client's request.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core

from translators import ir

_ACTION = core.HeaderValueOptionHeaderAppendAction


def written(changes: ir.HeaderChanges) -> list[core.HeaderValueOption]:
    """Return the headers to write, as a route or a weighted cluster has them."""
    return [
        core.HeaderValueOption(
            header=core.HeaderValue(key=each.name, value=literal(each.value)),
            append_action=_ACTION.APPEND_IF_EXISTS_OR_ADD if each.beside else _ACTION.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for each in changes.write
    ]


def removed(changes: ir.HeaderChanges) -> list[str]:
    """Return the headers to remove."""
    return list(changes.remove)


def literal(text: str) -> str:
    """Return a format string that Envoy formats as this text."""
    return text.replace("%", "%%")
