"""The models that servers say they serve, and the list of models completed by them.

A server's list (GET /v1/models) names what it serves and the LoRA adapters that it has at present.  The gateway's own
list comes from the control plane, which knows what is declared and not what is served; it passes here on its way to the
client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import re2
from msgspec import Meta, Struct

from picker.exchange import Pool

# More than that, or a name longer than that (InferenceModel.spec.modelName), is no list of models.
_MOST = 1024
_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_OWNER = "pointsman"

Served = Mapping[str, int]
"""Names, each with the time of its creation (seconds since the epoch, 0 where nobody says)."""

NOTHING: Served = MappingProxyType({})


class _Card(Struct, gc=False):
    id: _Name
    created: Annotated[int, Meta(ge=0)] | None = None


class _Page(Struct, gc=False):
    data: Annotated[list[_Card], Meta(max_length=_MOST)]


class _List(Struct):
    """Our own list: all that stands in a card is kept."""

    data: list[dict[str, Any]]
    object: str = "list"


class Source(Struct, frozen=True, array_like=True):
    """A pool whose servers' models can be asked for; those that the expression (RE2) matches, or all (None)."""

    pool: str
    expression: str | None = None


_page_decoder = msgspec.json.Decoder(_Page)
_sources_decoder = msgspec.json.Decoder(tuple[Source, ...])
_list_decoder = msgspec.json.Decoder(_List)
_expressions = re2.Options()
_expressions.log_errors = False


def read(page: bytes) -> Served:
    """Read a server's list; one that cannot be read names nothing."""
    try:
        return {card.id: card.created or 0 for card in _page_decoder.decode(page).data}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NOTHING


def read_sources(text: str) -> tuple[Source, ...]:
    """Read which pools are behind a list, as the control plane has Envoy say it; nothing from what says nothing."""
    try:
        return _sources_decoder.decode(text)
    except msgspec.DecodeError:
        return ()


def served_by(sources: Iterable[Source], find: Callable[[str], Pool | None]) -> dict[str, int]:
    """Add up what the pools' servers say of themselves, as far as requests for it get there."""
    found: dict[str, int] = {}
    for source in sources:
        pool = find(source.pool)
        if pool is None or pool.table is None:
            continue
        wanted = _matcher(source.expression)
        for name, created in pool.table.served.items():
            if name not in found and wanted(name) and not pool.rules.refuses(name):
                found[name] = created
    return found


def complete(listed: bytes, served: Served) -> bytes | None:
    """Add to a list what it lacks; None where there is nothing to add or the list is none."""
    try:
        document = _list_decoder.decode(listed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    cards = document.data
    named = {str(card.get("id")) for card in cards}
    more = [
        {"id": name, "object": "model", "created": created, "owned_by": _OWNER}
        for name, created in served.items()
        if name not in named
    ]
    if not more:
        return None
    document.data = sorted((*cards, *more), key=lambda card: str(card.get("id")))
    return msgspec.json.encode(document)


def _matcher(expression: str | None) -> Callable[[str], bool]:
    if expression is None:
        return lambda _: True
    try:
        compiled = re2.compile(expression, _expressions)
    except re2.error:
        return lambda _: False
    return lambda name: compiled.fullmatch(name) is not None
