"""What a source delivers: changes, and the present sets of problems and notices."""

from dataclasses import dataclass
from pathlib import Path

from resources import Delete, Upsert


@dataclass(frozen=True, slots=True, order=True)
class FileProblem:
    """A document that changes nothing until it is mended. Line 0 stands for the file or folder as a whole."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" if self.line else f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True, order=True)
class ObjectProblem:
    """An object of a cluster that changes nothing until it is mended, or a kind that cannot be read."""

    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, order=True)
class ObjectNotice:
    """Something of an object that is not read, and does no harm."""

    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, order=True)
class Notice:
    """Something of a document that is not read, and does no harm."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


AnyProblem = FileProblem | ObjectProblem
AnyNotice = Notice | ObjectNotice


@dataclass(frozen=True, slots=True)
class Reading:
    """What is different since the reading before, and all that is wrong or ignored at present, in order of place."""

    changes: tuple[Upsert | Delete, ...] = ()
    problems: tuple[AnyProblem, ...] = ()
    notices: tuple[AnyNotice, ...] = ()
