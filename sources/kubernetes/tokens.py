"""Asking an API server whose a token is (authentication/v1, TokenReview)."""

from __future__ import annotations

import orjson

from sources.kubernetes.api import Api

_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_SERVICE_ACCOUNT = "system:serviceaccount:"


async def review(api: Api, token: str, audience: str) -> tuple[str, str] | None:
    """Return namespace and name of the service account that a token for this audience is of; None where it is of none.

    A token that is bound to a pod is of none once the pod is gone. Raises ApiError, UnreachableError.
    """
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }
    status = orjson.loads(await api.post(_PATH, body)).get("status") or {}
    if not status.get("authenticated") or audience not in (status.get("audiences") or ()):
        return None
    name = str((status.get("user") or {}).get("username") or "")
    namespace, _, account = name.removeprefix(_SERVICE_ACCOUNT).partition(":")
    return (namespace, account) if name.startswith(_SERVICE_ACCOUNT) and account else None
