"""The endpoint picker: tells gateways, over ext_proc, which model server is to take each request."""

from picker.ads import Credentials
from picker.certificates import CertificateError, from_folder, self_signed
from picker.logs import Log
from picker.pools import Directory
from picker.process import ENVIRONMENT, PickerSettings, Teacher, serve

__all__ = [
    "ENVIRONMENT",
    "CertificateError",
    "Credentials",
    "Directory",
    "Log",
    "PickerSettings",
    "Teacher",
    "from_folder",
    "self_signed",
    "serve",
]
