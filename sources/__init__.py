"""Where resources come from: folders of manifests."""

from sources.folder import FolderSource
from sources.readings import FileProblem, Notice, Reading

__all__ = ["FileProblem", "FolderSource", "Notice", "Reading"]
