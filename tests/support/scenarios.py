"""The manifests of the scenarios that the examples are modelled on, cut unchanged out of the texts that tell them."""

import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

SEEDS = os.environ.get("POINTSMAN_SEEDS", "")
WITHOUT = "POINTSMAN_SEEDS does not name the folder of the scenarios' texts"

_START = re.compile(r"^\s*(apiVersion|kind): ")
_ROUND = re.compile(r"echo '(\{.*\})' > round\d\.txt")
# What may stand at the margin of a block; texts go on at the same depth, with titles and ends of here-documents.
_MARGIN = re.compile(r"[A-Za-z]+:|---$|#|- ")


def text_of(number: int) -> str:
    (path,) = Path(SEEDS).glob(f"{number:03}_*.txt")
    return path.read_text()


def rounds(text: str) -> list[str]:
    """The bodies that a text has written to files, to be sent one after the other."""
    return _ROUND.findall(text)


def blocks(text: str) -> list[str]:
    """The YAML blocks of a text: from a line that starts an object on, as long as lines could belong to it."""
    found: list[str] = []
    block: list[str] = []
    depth = 0
    for line in [*text.splitlines(), "end"]:
        indent = len(line) - len(line.lstrip())
        outside = indent < depth or (indent == depth and not _MARGIN.match(line.lstrip()))
        if block and line.strip() and outside:
            found.append(textwrap.dedent("\n".join(block)) + "\n")
            block = []
        if not block and _START.match(line):
            depth = indent
        if block or _START.match(line):
            block.append(line)
    return found


def documents(block: str) -> Iterator[tuple[str, str]]:
    """The objects of a block: a name for the file of each, and its text."""
    for document in re.split(r"^---\n", block, flags=re.MULTILINE):
        found = yaml.safe_load(document)
        yield f"{found['kind']}-{found['metadata']['name']}.yaml".lower(), document
