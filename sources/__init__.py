"""Where resources come from, and where statuses go: folders of manifests, and clusters (`sources.kubernetes`)."""

from sources.folder import FolderSource
from sources.readings import FileProblem, Notice, Reading

__all__ = ["FileProblem", "FolderSource", "Notice", "Reading"]
