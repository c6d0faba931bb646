"""The certificate authority of an installation: what it issues, how it is kept, and how its roots follow each other."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pointsman.authority import Authority, merged

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)
URI = "spiffe://pointsman/envoy/shop/front"


def holds(authority: Authority, chain: bytes, now: datetime, *, client: bool = True) -> bool:
    """Whether a peer that trusts the authority's roots takes a certificate."""
    builder = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(authority.bundle))).time(now)
    (leaf,) = x509.load_pem_x509_certificates(chain)
    verifier = builder.build_client_verifier() if client else builder.build_server_verifier(x509.DNSName("control"))
    try:
        verifier.verify(leaf, [])
    except VerificationError:
        return False
    return True


def test_a_certificate_is_of_one_name_one_side_and_a_few_days() -> None:
    authority = Authority.new(NOW)
    leaf = authority.issue(URI, "client", NOW)
    (certificate,) = x509.load_pem_x509_certificates(leaf.chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [each.value for each in names] == [URI]
    assert holds(authority, leaf.chain, NOW + DAY)
    assert not holds(authority, leaf.chain, NOW + 8 * DAY)
    assert not holds(Authority.new(NOW), leaf.chain, NOW)
    server = authority.issue("control", "server", NOW)
    assert holds(authority, server.chain, NOW, client=False)
    assert not holds(authority, server.chain, NOW)
    assert NOW + 2 * DAY < server.renew_at < NOW + 3 * DAY


def test_what_is_written_is_read_again() -> None:
    authority = merged([*Authority.new(NOW).roots, *Authority.new(NOW + DAY).roots])
    again = Authority.read(authority.write())
    assert again.write() == authority.write()
    assert len(again.roots) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ca.crt": b"none"}, "data[ca.crt]: no certificates in PEM"),
        ({"ca.key": b"none"}, "data[ca.key]: no private key in PEM"),
        ({"ca.key": b""}, "data[ca.key]: 0 keys for 1 certificates"),
        ({"ca.key": Authority.new(NOW).write()["ca.key"]}, "data[ca.key]: a key that is not its certificate's"),
    ],
)
def test_what_cannot_be_read_is_named_and_not_quoted(change: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match="data") as raised:
        Authority.read({**Authority.new(NOW).write(), **change})
    assert str(raised.value) == message


def test_a_new_root_is_trusted_before_it_signs_and_the_old_one_until_it_expires() -> None:
    old = Authority.new(NOW)
    assert old.renewed(NOW + 4 * YEAR) is old
    begin = NOW + 6 * YEAR
    both = old.renewed(begin)
    assert both.roots[0] == old.roots[0]
    assert len(both.roots) == 2
    # Whoever has not heard of it trusts what is issued; those who have trust what was issued before.
    assert holds(old, both.issue(URI, "client", begin).chain, begin)
    later = begin + 2 * HOUR
    assert not holds(old, both.issue(URI, "client", later).chain, later)
    assert holds(both, old.issue(URI, "client", later).chain, later)
    alone = both.renewed(NOW + 10 * YEAR + 4 * DAY)
    assert alone.roots == both.roots[1:]
