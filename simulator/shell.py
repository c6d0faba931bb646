"""From a container's command to the argument vectors that it would run: Kubernetes' expansion, then the shell's.

This reads scripts, it does not run them: command substitution, functions and variables that the script itself sets
stay as they are written.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from simulator.spec import CommandError

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh"})
_SEPARATORS = frozenset(";&|()\n")
# "$$" is Kubernetes' escape of "$"; a reference to an unknown variable stays (API reference, Container.command).
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?-([^}]*))?\}|([A-Za-z_]\w*))")
_REDIRECT = re.compile(r"(?<=\s)\d?(?:>>?|<)\s*&?\s*[^\s;&|]+")
_COMMENT_LINE = re.compile(r"^\s*#.*$", re.MULTILINE)


def expand(text: str, env: Mapping[str, str]) -> str:
    """`text` with each $(NAME) that `env` knows replaced, as the kubelet does before it starts a container."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else env.get(name, match[0])

    return _REFERENCE.sub(value, text)


def environment(variables: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Expand a container's variables, in order: a later one may refer to an earlier one."""
    env: dict[str, str] = {}
    for name, value in variables:
        env[name] = expand(value, env)
    return env


def commands(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[list[str]]:
    """Find the simple commands that `argv` runs: itself, or for `sh -c SCRIPT` (and its kin) those in the script.

    Raises CommandError for a script whose quotes do not match.
    """
    words = [expand(word, env) for word in argv]
    script = _script(words)
    if script is None:
        yield words
    else:
        yield from _simple_commands(script, env)


def _script(words: Sequence[str]) -> str | None:
    if not words or PurePosixPath(words[0]).name not in _SHELLS:
        return None
    for place, word in enumerate(words[1:], start=1):
        if not word.startswith("-"):
            return None
        if not word.startswith("--") and "c" in word:
            return words[place + 1] if place + 1 < len(words) else None
    return None


def _simple_commands(script: str, env: Mapping[str, str]) -> Iterator[list[str]]:
    joined = _COMMENT_LINE.sub("", script.replace("\\\n", ""))
    text = _REDIRECT.sub(" ", _VARIABLE.sub(lambda match: _variable(match, env), joined))
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(sorted(_SEPARATORS)))
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for token in lexer:
            if token and set(token) <= _SEPARATORS:
                if words:
                    yield words
                words = []
            else:
                words.append(token)
    except ValueError as error:
        raise CommandError(f"the shell script does not parse: {error}") from error
    if words:
        yield words


def _variable(match: re.Match[str], env: Mapping[str, str]) -> str:
    name = match[1] or match[3]
    default: str | None = match[2]
    return env.get(name, match[0] if default is None else default)
