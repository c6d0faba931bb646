"""Chat completion requests of an exact size."""

import json

# With what makes a JSON parser work: quotes, and an end of line.
_SENTENCE = 'The logbook for that winter records "late" trains, snow on the points and one broken lamp.\n'


def chat(model: str, size: int, *, number: int = 0, model_last: bool = False) -> bytes:
    """Return a request of `size` bytes: a system message and one long user message, another one for each number.

    `model` is the first key, as in most documentation, or the last one. ValueError when `size` is too small.
    """
    begins = f"{number}. "
    room = size - len(_request(model, begins, model_last=model_last))
    if room < 0:
        raise ValueError(f"{size} bytes have no room for a prompt: {size - room} bytes are around it")
    sentences, dots = divmod(room, len(json.dumps(_SENTENCE)) - len('""'))
    return _request(model, begins + _SENTENCE * sentences + "." * dots, model_last=model_last)


def _request(model: str, prompt: str, *, model_last: bool) -> bytes:
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": prompt}]
    rest: dict[str, object] = {"messages": messages, "temperature": 0.7, "max_tokens": 256, "stream": False}
    document = {**rest, "model": model} if model_last else {"model": model, **rest}
    return json.dumps(document, separators=(",", ":")).encode()
