"""The endpoint picker: tells Envoy, over ext_proc, which model server is to take each request."""

from picker.process import ENVIRONMENT, PickerSettings, serve

__all__ = ["ENVIRONMENT", "PickerSettings", "serve"]
