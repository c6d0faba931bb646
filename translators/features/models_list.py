"""GET /v1/models: the models that are routable on a hostname, in OpenAI's list shape.

The gateway answers where the route chosen leads to a pool, or where no route is chosen and the hostname has pools: each
pod of a pool knows its own models only. A rule that leads to a Service keeps the path.
"""

from __future__ import annotations

import json

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route

from translators import ir
from translators.expressions import matches

PATH = "/v1/models"


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
