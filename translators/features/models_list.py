"""GET /v1/models: the models that are routable on a hostname, in OpenAI's list shape.

The gateway answers where the route chosen leads to a pool, or where no route is chosen and the hostname has pools: each
pod of a pool knows its own models only. A rule that leads to a Service keeps the path.

What is declared stands in the route. The answer then passes our picker, which adds what the pools' servers say that
they serve, adapters included; without the picker it goes as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route

from translators import ir
from translators.expressions import matches

PATH = "/v1/models"
_MOST_POOLS = 256


def routable(host: ir.VirtualHost) -> dict[str, int]:
    """Return each model that a request to this hostname can name, with the time of its declaration (0: unknown).

    A rule that matches on one model names it; any other rule to a pool serves the models that are declared for the
    pool, as far as the rule's expression matches them.
    """
    models: dict[str, int] = {}
    for rule in host.routes:
        if not rule.served:
            continue
        declared = {name: at for pool in rule.pools for name, at in pool.declared.items()}
        if rule.model is None:
            models |= {name: created for name, created in declared.items() if name not in models}
        elif rule.model.kind == "Exact":
            models.setdefault(rule.model.value, declared.get(rule.model.value, 0))
        else:
            wanted = rule.model.value
            models |= {name: at for name, at in declared.items() if name not in models and matches(wanted, name)}
    return dict(sorted(models.items()))


@dataclass(frozen=True, slots=True)
class Sources:
    """The pools whose servers are asked, each with an expression for the models that are meant; and who asks them."""

    pools: tuple[tuple[str, str | None], ...] = ()
    seat: ir.Picker | None = None


def sources(host: ir.VirtualHost) -> Sources:
    """Return whose models a request to this hostname can name besides those that are declared.

    Where pools have pickers in several places, the list is completed by the first one's.
    """
    found: dict[tuple[str, str | None], ir.Picker | None] = {}
    for rule in host.routes:
        if rule.served and (rule.model is None or rule.model.kind != "Exact"):
            expression = None if rule.model is None else rule.model.value
            found |= {
                (pool.name, expression): pool.seat
                for pool in rule.pools
                # Of other pickers' pools ours knows those for which it stands in.
                if (pool.picker is None or pool.stand_in) and pool.unlisted != "refused"
            }
    seat = next(iter(found.values()), None)
    pools = tuple(pool for pool, place in found.items() if place == seat)
    # They travel as a header.
    return Sources(pools[:_MOST_POOLS], seat)


def action(models: dict[str, int]) -> route.DirectResponseAction:
    """Return the answer."""
    listed = [{"id": name, "object": "model", "created": at, "owned_by": "pointsman"} for name, at in models.items()]
    body = json.dumps({"object": "list", "data": listed}, ensure_ascii=False, separators=(",", ":"))
    return route.DirectResponseAction(status=200, body=core.DataSource(inline_string=body))


CONTENT_TYPE = core.HeaderValueOption(
    header=core.HeaderValue(key="content-type", value="application/json"),
    append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
)
"""The header that the answer needs, since Envoy takes a direct response for text."""
