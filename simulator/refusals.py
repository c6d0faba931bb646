"""Requests that a server refuses, as values on their way to the answer. Pure."""

from http import HTTPStatus

import orjson


class RequestError(Exception):
    """A request that the server refuses, with the answer's status and its fields in OpenAI's error shape."""

    def __init__(self, status: HTTPStatus, message: str, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        """Encode the answer's body."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": int(self.status)}
        return orjson.dumps({"error": error})


def bad_request(message: str, param: str | None = None) -> RequestError:
    """Make vLLM's refusal of a request that it understood."""
    return RequestError(HTTPStatus.BAD_REQUEST, message, "BadRequestError", param)


def unreadable(error: Exception) -> RequestError:
    """Make vLLM's refusal of a body that it does not understand."""
    # The type is FastAPI's phrase: vLLM's handler of validation errors puts it there.
    return RequestError(HTTPStatus.BAD_REQUEST, str(error), "Bad Request")
