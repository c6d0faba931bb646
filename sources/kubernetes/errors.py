"""What can go wrong between us and an API server."""

from __future__ import annotations

GONE = 410
NOT_FOUND = 404
FORBIDDEN = 403
CONFLICT = 409


class ApiError(Exception):
    """The API server refused a request.

    `status` is HTTP's, `reason` that of the API ("NotFound", "Forbidden", ...); `retry_after` is in seconds, 0 where
    the server does not say.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class UnreachableError(Exception):
    """The API server gave no answer."""


class ConfigurationError(Exception):
    """There is no usable kubeconfig, and this is no pod."""
