"""The server's side of HTTP/2 against another implementation of the client's: h2."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from picker.http2 import Call, Connection, Opener
from picker.http2.compression import Blocks, keeps_table

HEADERS = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "x"), ("te", "trailers")]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS_FRAME, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">L", len(payload))[1:] + struct.pack(">BBL", kind, flags, stream) + payload


def message(body: bytes) -> bytes:
    return struct.pack(">BL", 0, len(body)) + body


@dataclass
class Stream:
    """A receiver that notes what comes and answers as it is told."""

    call: Call
    headers: Mapping[str, str]
    answer: Callable[[Stream, bytes], None]
    messages: list[bytes] = field(default_factory=list)
    finished: bool = False
    abandoned: bool = False

    def receive(self, message: bytes) -> None:
        self.messages.append(message)
        self.answer(self, message)

    def finish(self) -> None:
        self.finished = True

    def abandon(self) -> None:
        self.abandoned = True


def echo(stream: Stream, body: bytes) -> None:
    stream.call.finish(body)


class Server:
    """A connection; `streams` are those that were opened, `made` is how often headers were looked at."""

    def __init__(self, answer: Callable[[Stream, bytes], None] = echo, *, replenish: int = 1 << 30) -> None:
        self.streams: list[Stream] = []
        self.made = 0
        self.woken = 0
        self.failures: list[Exception] = []
        self._answer = answer
        self.connection = Connection(self._route, woken=self._wake, failed=self.failures.append, replenish=replenish)

    def _wake(self) -> None:
        self.woken += 1

    def _route(self, headers: Mapping[str, str]) -> Opener | None:
        self.made += 1
        if headers.get(":path") != "/echo":
            return None

        def opened(call: Call) -> Stream:
            self.streams.append(Stream(call, headers, self._answer))
            return self.streams[-1]

        return opened


class Client:
    """h2 in front of a server; it checks by itself that the server keeps to the protocol."""

    def __init__(self, server: Server, *, cuts: Callable[[bytes], list[bytes]] = lambda data: [data]) -> None:
        self._server = server
        self._cuts = cuts
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.events: list[Event] = []
        self.exchange()

    def exchange(self) -> None:
        """Carry bytes to and fro until nobody has any."""
        while True:
            sent, received = self.h2.data_to_send(), self._server.connection.take()
            if not sent and not received:
                return
            for piece in self._cuts(sent):
                self._server.connection.receive(piece)
            self.events += self.h2.receive_data(received)

    def ask(self, body: bytes, *, end: bool = False, headers: list[tuple[str, str]] = HEADERS) -> int:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers)
        self.send(number, message(body), end=end)
        return number

    def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        while len(data) > self.h2.max_outbound_frame_size:
            self.h2.send_data(number, data[: self.h2.max_outbound_frame_size])
            data = data[self.h2.max_outbound_frame_size :]
        self.h2.send_data(number, data, end_stream=end)
        self.exchange()

    def data(self, number: int) -> bytes:
        return b"".join(e.data for e in self.events if isinstance(e, DataReceived) and e.stream_id == number)

    def trailers(self, number: int) -> dict[str, str]:
        kinds = (TrailersReceived, ResponseReceived)
        return dict(
            header for e in self.events if isinstance(e, kinds) and e.stream_id == number for header in e.headers
        )

    def of(self, kind: type[Event], number: int) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind) and event.stream_id == number]


def test_one_message_each_way() -> None:
    server = Server()
    client = Client(server)
    number = client.ask(b"hello")
    assert client.data(number) == message(b"hello")
    assert client.trailers(number) == {":status": "200", "content-type": "application/grpc", "grpc-status": "0"}
    assert client.of(StreamEnded, number)
    [reset] = client.of(StreamReset, number)
    assert getattr(reset, "error_code", None) == 0
    assert not len(server.connection)
    assert server.streams[0].headers[":path"] == "/echo"


def test_a_client_that_has_said_all_is_not_told_to_stop() -> None:
    client = Client(Server())
    number = client.ask(b"hello", end=True)
    assert client.data(number) == message(b"hello")
    assert client.of(StreamEnded, number)
    assert not client.of(StreamReset, number)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
@settings(max_examples=60)
def test_bytes_come_in_any_pieces(bodies: list[bytes], draw: st.DataObject) -> None:
    def cuts(data: bytes) -> list[bytes]:
        places = sorted(draw.draw(st.sets(st.integers(0, len(data)), max_size=8)) | {0, len(data)})
        return [data[start:end] for start, end in pairwise(places)]

    server = Server(lambda stream, body: stream.call.send(body[::-1]))
    client = Client(server, cuts=cuts)
    number = client.ask(bodies[0])
    client.send(number, b"".join(map(message, bodies[1:])) or message(b""))
    expected = bodies[:1] + (bodies[1:] or [b""])
    assert server.streams[0].messages == expected
    assert client.data(number) == b"".join(message(body[::-1]) for body in expected)


def test_answers_to_what_came_together_leave_together() -> None:
    server = Server()
    client = Client(server)
    for _ in range(3):
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(number, HEADERS)
        client.h2.send_data(number, message(b"x"))
    server.connection.receive(client.h2.data_to_send())
    client.events += client.h2.receive_data(server.connection.take())
    assert [client.data(number) for number in (1, 3, 5)] == [message(b"x")] * 3
    assert not server.woken


def test_an_answer_that_comes_later_wakes_the_rim() -> None:
    server = Server(lambda _stream, _body: None)
    client = Client(server)
    number = client.ask(b"x")
    server.streams[0].call.finish(b"later")
    assert server.woken == 1
    client.exchange()
    assert client.data(number) == message(b"later")


def test_long_messages_wait_for_room() -> None:
    server = Server(lambda stream, body: stream.call.finish(body * 2))
    client = Client(server)
    body = bytes(range(256)) * 400
    number = client.ask(body)
    # No more than the client's windows of 65,535 bytes; h2 would call anything else a violation.
    assert len(client.data(number)) == 65_535
    other = client.ask(b"small")
    assert client.data(other) == b""
    while len(client.data(number)) < len(message(body * 2)):
        client.h2.increment_flow_control_window(9_000)
        client.h2.increment_flow_control_window(9_000, number)
        client.exchange()
    assert client.data(number) == message(body * 2)
    assert client.trailers(number)["grpc-status"] == "0"
    client.h2.increment_flow_control_window(9_000)
    client.exchange()
    assert client.data(other) == message(b"small" * 2)


def test_windows_that_the_client_changes_later() -> None:
    server = Server(lambda stream, _body: stream.call.finish(b"y" * 100))
    client = Client(server)
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10, SettingCodes.MAX_FRAME_SIZE: 20_000})
    client.exchange()
    assert any(isinstance(event, SettingsAcknowledged) for event in client.events)
    number = client.ask(b"x")
    assert len(client.data(number)) == 10
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    client.exchange()
    assert client.data(number) == message(b"y" * 100)


def test_a_client_without_a_compression_table() -> None:
    client = Client(Server())
    client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 0})
    client.exchange()
    # h2 refuses a first block that does not say that its writer has taken notice.
    for body in (b"one", b"two"):
        assert client.data(client.ask(body)) == message(body)


def test_the_client_may_go_on_for_ever() -> None:
    server = Server(lambda _stream, _body: None, replenish=10_000)
    client = Client(server)
    number = client.ask(b"x" * 50)
    for _ in range(300):
        client.send(number, message(b"x" * 1000))
    assert len(server.streams[0].messages) == 301
    told = [event for event in client.events if isinstance(event, WindowUpdated)]
    assert {event.stream_id for event in told} == {0, number}


def test_the_end_of_the_clients_messages() -> None:
    server = Server(lambda _stream, _body: None)
    client = Client(server)
    number = client.ask(b"x", end=True)
    assert server.streams[0].finished
    server.streams[0].call.end()
    client.exchange()
    assert client.trailers(number)["grpc-status"] == "0"


def test_the_clients_trailers_end_its_messages() -> None:
    server = Server(lambda _stream, _body: None)
    client = Client(server)
    number = client.ask(b"x")
    client.h2.send_headers(number, [("some", "trailer")], end_stream=True)
    client.exchange()
    assert server.streams[0].finished


def test_a_client_that_leaves() -> None:
    server = Server(lambda _stream, _body: None)
    client = Client(server)
    number = client.ask(b"x")
    client.h2.reset_stream(number)
    client.exchange()
    [stream] = server.streams
    assert (stream.abandoned, stream.call.ended, len(server.connection)) == (True, True, 0)
    for send in (stream.call.send, stream.call.finish):
        send(b"too late")
    stream.call.end()
    stream.call.fail(ValueError())
    assert server.connection.take() == b""
    assert not server.failures


def test_what_comes_behind_the_end_of_a_stream_is_passed_over() -> None:
    server = Server()
    connection = server.connection
    connection.take()
    block = Encoder().encode(HEADERS)
    connection.receive(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS_FRAME, 4, 1, block))
    connection.receive(frame(DATA, 0, 1, message(b"x")))
    connection.receive(
        frame(DATA, 0, 1, message(b"y")) + frame(WINDOW, 0, 1, b"\0\0\0\1") + frame(RST, 0, 1, b"\0" * 4)
    )
    assert server.streams[0].messages == [b"x"]
    assert not connection.closed


def test_a_lost_connection_and_a_goodbye_abandon_what_runs() -> None:
    for end in (Connection.lose, Connection.leave):
        server = Server(lambda _stream, _body: None)
        client = Client(server)
        client.ask(b"x")
        end(server.connection)
        assert server.streams[0].abandoned
        assert server.connection.closed
        server.connection.receive(frame(PING, 0, 0, b"12345678"))
    client.exchange()
    [goodbye] = [event for event in client.events if isinstance(event, ConnectionTerminated)]
    assert (goodbye.error_code, goodbye.last_stream_id) == (0, 1)


def test_a_receiver_that_fails_ends_its_own_stream_only() -> None:
    def answer(stream: Stream, body: bytes) -> None:
        if body == b"bad":
            raise ValueError(body)
        stream.call.finish(body)

    server = Server(answer)
    client = Client(server)
    bad, good = client.ask(b"bad"), client.ask(b"good")
    assert client.trailers(bad)["grpc-status"] == "13"
    assert client.trailers(bad)["grpc-message"]
    assert client.data(good) == message(b"good")
    assert [str(error) for error in server.failures] == ["b'bad'"]


def test_what_is_not_served() -> None:
    client = Client(Server())
    number = client.ask(b"x", headers=[*HEADERS[:2], (":path", "/other"), *HEADERS[3:]])
    assert client.trailers(number)["grpc-status"] == "12"


def test_compressed_messages_are_refused() -> None:
    server = Server()
    client = Client(server)
    number = client.h2.get_next_available_stream_id()
    client.h2.send_headers(number, HEADERS)
    client.send(number, b"\x01\x00\x00\x00\x01x")
    assert client.trailers(number)["grpc-status"] == "12"
    assert server.streams[0].messages == []


def test_a_status_with_a_text() -> None:
    client = Client(Server(lambda stream, _body: stream.call.end(9, "100 % füll\n")))
    number = client.ask(b"x")
    assert client.trailers(number)["grpc-message"] == "100 %25 f%C3%BCll%0A"


def test_pings_are_answered() -> None:
    client = Client(Server())
    client.h2.ping(b"12345678")
    client.exchange()
    assert any(isinstance(event, PingAckReceived) for event in client.events)
    assert any(isinstance(event, RemoteSettingsChanged) for event in client.events)


def test_long_header_blocks_and_padding() -> None:
    server = Server()
    client = Client(server)
    number = client.h2.get_next_available_stream_id()
    client.h2.send_headers(number, [*HEADERS, *((f"x-{n}", "v" * 3000) for n in range(10))])
    client.h2.send_data(number, message(b"hello"), pad_length=11)
    client.exchange()
    assert client.data(number) == message(b"hello")
    assert server.streams[0].headers["x-9"] == "v" * 3000


names = st.sampled_from(["x-pool", "x-envoy", "x-other"])
extras = st.sampled_from([{}, {"x-pool": "a"}, {"x-pool": "b"}, {"x-pool": "a", "x-envoy": "c" * 30}])


@given(st.lists(extras, max_size=12), st.sampled_from([0, 60, 100, 4096]), st.booleans())
@settings(max_examples=300)
def test_a_block_read_before_means_what_it_means_at_the_time(
    asked: list[dict[str, str]],
    table: int,
    huffman: bool,  # noqa: FBT001
) -> None:
    """Equal bytes mean different headers when the table has moved on; blocks that move it are never taken as known."""
    server = Server()
    encoder = Encoder()
    encoder.header_table_size = table
    server.connection.receive(PREFACE + frame(SETTINGS, 0, 0))
    for place, extra in enumerate(asked):
        headers = [*HEADERS[:4], *extra.items()]
        # Headers that must not be indexed are written out each time, as Envoy writes its path.
        block = encoder.encode([(*header, header[0] in (":path", ":authority")) for header in headers], huffman=huffman)
        server.connection.receive(frame(HEADERS_FRAME, 5, 2 * place + 1, block))
        assert not server.connection.closed
        assert server.streams[-1].headers == dict(headers)


def test_a_block_that_enters_the_table_twice_is_read_twice() -> None:
    server = Server()
    path = b"\x04\x05/echo"
    entering = path + b"\x40\x06x-pool\x01a"
    server.connection.receive(PREFACE + frame(SETTINGS, 0, 0))
    # The table's second entry is there only if both were taken in.
    for place, block in enumerate((entering, entering, path + b"\xbf")):
        server.connection.receive(frame(HEADERS_FRAME, 5, 2 * place + 1, block))
    assert [stream.headers for stream in server.streams] == [{":path": "/echo", "x-pool": "a"}] * 3


def test_blocks_that_are_all_different_are_not_kept_for_ever() -> None:
    blocks = Blocks(lambda headers: headers["x-pool"])
    encoder = Encoder()
    for number in range(3000):
        assert blocks.read(encoder.encode([("x-pool", str(number), True)])) == str(number)
    assert 0 < len(blocks) <= 1024


def test_a_client_that_asks_alike_is_understood_once() -> None:
    server = Server()
    client = Client(server)
    for _ in range(20):
        client.ask(b"x", end=True)
    # Once to fill the table, once with what is in it.
    assert server.made == 2
    assert len(server.streams) == 20


@given(st.lists(st.tuples(names, st.text(st.characters(codec="ascii"), max_size=150)), max_size=4), st.booleans())
def test_whether_a_block_keeps_the_table(headers: list[tuple[str, str]], huffman: bool) -> None:  # noqa: FBT001
    encoder = Encoder()
    first = encoder.encode(headers, huffman=huffman)
    assert keeps_table(first) == (not headers)
    assert keeps_table(encoder.encode(headers, huffman=huffman))
    assert keeps_table(Encoder().encode([(*header, True) for header in headers], huffman=huffman))


BLOCK = Encoder().encode(HEADERS)


@pytest.mark.parametrize(
    ("bytes_", "code"),
    [
        (frame(DATA, 0, 7, b"x"), 1),
        (frame(DATA, 0, 0, b"x"), 1),
        (frame(RST, 0, 7, b"\0" * 4), 1),
        (frame(HEADERS_FRAME, 4, 2, BLOCK), 1),
        (frame(HEADERS_FRAME, 4, 0, BLOCK), 1),
        (frame(HEADERS_FRAME, 4, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
        (frame(HEADERS_FRAME, 4, 1, b"\xc6"), 9),
        (frame(HEADERS_FRAME, 0, 1, BLOCK) + frame(PING, 0, 0, b"12345678"), 1),
        (frame(HEADERS_FRAME, 0, 1, BLOCK) + frame(CONTINUATION, 4, 3), 1),
        (frame(CONTINUATION, 4, 1), 1),
        (frame(HEADERS_FRAME, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, b"x" * 16_384) * 5, 11),
        (frame(HEADERS_FRAME, 12, 1, b"\x05abc"), 1),
        (frame(HEADERS_FRAME, 4, 1, BLOCK) + frame(HEADERS_FRAME, 4, 1, BLOCK), 1),
        (frame(HEADERS_FRAME, 5, 1, BLOCK) + frame(DATA, 0, 1, b"x"), 1),
        (frame(PUSH, 4, 1, b"\0\0\0\2"), 1),
        (frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"), 3),
        (frame(SETTINGS, 0, 0, b"\0\5\0\0\0\1"), 1),
        (frame(SETTINGS, 0, 0, b"\0\5\0"), 6),
        (frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), 3),
        (frame(WINDOW, 0, 0, b"\0\0\0\0"), 3),
        (frame(WINDOW, 0, 0, b"\0"), 6),
        (frame(DATA, 0, 1, b"x" * 16_385), 6),
    ],
)
def test_violations_end_the_connection_and_say_why(bytes_: bytes, code: int) -> None:
    server = Server(lambda _stream, _body: None)
    connection = server.connection
    connection.receive(PREFACE + frame(SETTINGS, 0, 0))
    connection.take()
    connection.receive(bytes_)
    assert connection.closed
    out = connection.take()
    assert struct.unpack(">L", out[out.rindex(b"\x07\0\0\0\0\0") + 10 :][:4]) == (code,)
    assert all(stream.abandoned for stream in server.streams)


def test_what_is_no_http2() -> None:
    server = Server()
    server.connection.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert server.connection.closed


def test_frames_of_unknown_types_are_passed_over() -> None:
    server = Server()
    server.connection.receive(PREFACE + frame(SETTINGS, 0, 0) + frame(99, 255, 5, b"?") + frame(2, 0, 1, b"12345"))
    server.connection.receive(frame(GOAWAY, 0, 0, b"\0" * 8))
    assert not server.connection.closed


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=30))))
def test_no_frames_raise(frames: list[tuple[int, int, int, bytes]]) -> None:
    server = Server()
    server.connection.receive(PREFACE + b"".join(frame(*each) for each in frames))
    assert not server.failures
