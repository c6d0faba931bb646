"""The server's side of HTTP/2 for gRPC, on one connection, as a state machine without I/O.

The picker answers thousands of exchanges a second, each a stream of its own with one small message each way.  A gRPC
library spends ten times as long on such a stream as the decision takes, and writes each answer by itself; here the
answers to all that came together leave together.  What it speaks is what a gRPC client does: requests with a header
block and messages, no pushes, no priorities (RFC 9113; gRPC over HTTP/2).
"""

from picker.http2.call import Call, Opener, Receiver
from picker.http2.connection import Connection

__all__ = ["Call", "Connection", "Opener", "Receiver"]
