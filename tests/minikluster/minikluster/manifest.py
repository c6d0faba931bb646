"""Kubernetes objects as JSON has them."""

from typing import Any

Manifest = dict[str, Any]
"""A Kubernetes object, or a part of one."""
