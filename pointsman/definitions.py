"""`pointsman crds`: the CustomResourceDefinitions that Pointsman brings, printed or installed."""

import yaml

from pointsman.failure import Failure
from resources.crds import definitions
from sources.kubernetes.api import Api
from sources.kubernetes.errors import CONFLICT, ApiError, UnreachableError

_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def as_yaml() -> str:
    """All of them, one document each."""
    return yaml.safe_dump_all(definitions(), sort_keys=False, explicit_start=True)


async def install(api: Api) -> list[str]:
    """Install those that are missing and say of each what became of it. Failure where the API server refuses.

    One that is installed is never replaced: it may be its maker's own, which says more than ours.
    """
    lines = []
    for definition in definitions():
        name = definition["metadata"]["name"]
        try:
            await api.post(_PATH, definition)
        except ApiError as error:
            if error.status != CONFLICT:
                raise Failure(f"{name}: {error}") from None
            lines.append(f"{name}: kept")
        except UnreachableError as error:
            raise Failure(f"API server: {error}") from None
        else:
            lines.append(f"{name}: created")
    return lines
