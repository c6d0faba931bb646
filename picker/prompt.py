"""The prompt that a request's body carries, and its prefix as a chain of hashes.

Two requests whose servers see the same text up to some place have the same chain up to that place, and what a pod has
cached is a prefix of what it was sent: so the chain is all that is needed to tell how much of a prompt a pod knows.

The text is what the server's template is fed with, in the order of most templates: tools, then role and content of
each message; content that is no text (images) goes in as it is written.  Spacing, the order of keys and escapes do not
matter.  Different models and adapters never share a cache, so the chain starts from the model's name as the server
knows it, and from `cache_salt`, by which clients keep their caches apart (vLLM).

Blocks are of 64 bytes at first and grow with the distance: never more than a sixteenth of what is before them.  So a
prompt of 400 bytes has 6 blocks, one of 220 KB 138, and one of 20 MB 243, and the place at which two prompts part is
known to about six hundredths.  Where blocks begin and end depends on the distance alone, so that a longer prompt has
the blocks of its beginning.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder
from xxhash import xxh3_64_intdigest

_BLOCK = 64
_SHARE = 16
_LONGEST = 64 * 1024 * 1024
# Between the parts of a text; no token of a template, only a mark that text does not contain.
_PART, _MESSAGE = b"\x1e", b"\x1f"


def _ends() -> Iterator[int]:
    end, size = 0, _BLOCK
    while end < _LONGEST:
        yield end
        while size * 2 * _SHARE <= end:
            size *= 2
        end += size


ENDS = tuple(_ends())
"""How many bytes the first n blocks cover, by n."""

_BLOCKS = tuple(slice(begin, end) for begin, end in pairwise(ENDS))


class _Part(Struct, gc=False):
    text: str = ""
    image_url: Raw = Raw()
    video_url: Raw = Raw()
    audio_url: Raw = Raw()
    input_audio: Raw = Raw()


class _Message(Struct, gc=False):
    role: str = ""
    content: str | list[_Part] | None = None
    tool_calls: Raw = Raw()


class _Document(Struct, gc=False):
    model: str | None = None
    messages: list[_Message] | None = None
    prompt: str | list[Raw] | None = None
    system: Raw = Raw()
    tools: Raw = Raw()
    cache_salt: str | None = None


_decode = Decoder(_Document).decode


class Prompt(Struct, gc=False):
    """A body's model ("" when it names none), its text as bytes, and its salt."""

    model: str
    text: bytes
    salt: str = ""


def read(body: bytes) -> Prompt | None:
    """Read a body of the chat or the completions API; None where it is neither."""
    try:
        document = _decode(body)
    except (DecodeError, UnicodeDecodeError):
        return None
    return Prompt(document.model or "", b"".join(_pieces(document)), document.cache_salt or "")


def _pieces(document: _Document) -> Iterator[bytes]:
    if document.messages is not None:
        yield bytes(document.tools)
        yield bytes(document.system)
        for message in document.messages:
            yield _MESSAGE
            yield _bytes(message.role)
            yield _PART
            content = message.content
            if isinstance(content, str):
                yield _bytes(content)
            elif content is not None:
                for part in content:
                    yield _bytes(part.text)
                    yield bytes(part.image_url) + bytes(part.video_url)
                    yield bytes(part.audio_url) + bytes(part.input_audio)
            yield bytes(message.tool_calls)
    elif isinstance(document.prompt, str):
        yield _bytes(document.prompt)
    elif document.prompt is not None:
        for item in document.prompt:
            yield bytes(item)
            yield _PART


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def chain(prompt: Prompt, model: str) -> list[int]:
    """Hash the whole blocks of a prompt for the model as the server knows it; each hash covers all before it."""
    text = prompt.text
    link = xxh3_64_intdigest(f"{model}\0{prompt.salt}".encode("utf-8", "surrogatepass"))
    links = []
    for block in _BLOCKS[: bisect_right(ENDS, len(text)) - 1]:
        link = xxh3_64_intdigest(text[block], link)
        links.append(link)
    return links
