"""What Envoys and pickers are certified with: for whom, for how long, and that no key is shown."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret

from pointsman.authority import Authority
from pointsman.identities import Identities
from protos.pointsman.picker.v1.identity_pb2 import Identity
from translators.identities import account_of

START = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PICKER = "picker/shop/epp/9002"


class Stage:
    def __init__(self) -> None:
        self.now = START
        self.authority = Authority.new(START)
        self.identities = Identities(self.authority, "Secret system/authority", lambda: self.now)


def names(chain: bytes) -> list[str]:
    (certificate,) = x509.load_pem_x509_certificates(chain)
    return [each.value for each in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def test_each_part_has_a_certificate_of_its_own_and_the_roots_of_the_others() -> None:
    stage = Stage()
    own, trust = (Secret.parse(each.body) for each in stage.identities.of_envoy("shop/front"))
    assert (own.name, trust.name) == ("pointsman/identity", "pointsman/trust")
    assert own.tls_certificate is not None
    assert own.tls_certificate.certificate_chain is not None
    assert names(own.tls_certificate.certificate_chain.inline_bytes or b"") == ["spiffe://pointsman/envoy/shop/front"]
    assert trust.validation_context is not None
    assert trust.validation_context.trusted_ca is not None
    assert trust.validation_context.trusted_ca.inline_bytes == stage.authority.bundle
    (sealed,) = stage.identities.of_picker(PICKER)
    identity = Identity.FromString(sealed.body)
    assert (sealed.name, identity.trusted_roots) == (PICKER, stage.authority.bundle)
    assert names(identity.certificate_chain) == [f"spiffe://pointsman/{PICKER}"]
    assert "spiffe://pointsman/envoy/shop/front".startswith(identity.client_prefix)
    for each in (sealed, *stage.identities.of_envoy("shop/front"), stage.authority, stage.identities):
        assert "PRIVATE" not in repr(each)


def test_certificates_stay_until_they_are_due() -> None:
    stage = Stage()
    first, server = stage.identities.of_envoy("shop/front"), stage.identities.server
    stage.now += DAY
    # Read anew from the Secret, it is the same.
    assert not stage.identities.take(Authority.read(stage.authority.write()))
    assert stage.identities.of_envoy("shop/front") == first
    assert stage.identities.server is server
    stage.now += 2 * DAY
    assert stage.identities.take(stage.authority)
    assert stage.identities.of_envoy("shop/front")[0] != first[0]
    assert stage.identities.server is not server


def test_a_service_account_has_a_certificate_until_it_is_due() -> None:
    stage = Stage()
    found = stage.identities.of_account("system", "front-ours")
    (certificate,) = x509.load_pem_x509_certificates(found.chain)
    assert names(found.chain) == ["spiffe://pointsman/account/system/front-ours"]
    assert account_of(names(found.chain)) == ("system", "front-ours")
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [*usage] == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert "PRIVATE" not in repr(found)
    stage.now += DAY
    assert not stage.identities.take(stage.authority)
    assert stage.identities.of_account("system", "front-ours") == found
    assert stage.identities.of_account("system", "other") != found
    # With days to spare, for what is asleep or away.
    stage.now = START + 3 * DAY
    assert stage.identities.take(stage.authority)
    renewed = stage.identities.of_account("system", "front-ours")
    assert renewed.chain != found.chain
    assert certificate.not_valid_after_utc > stage.now + 3 * DAY
    # Nobody asks any more for what is gone; nothing is due because of it.
    stage.now += 3 * DAY
    assert stage.identities.take(stage.authority)
    assert not stage.identities.take(stage.authority)


def test_new_roots_are_sent_to_all() -> None:
    stage = Stage()
    first = stage.identities.of_envoy("shop/front")
    stage.now += timedelta(days=6 * 365)
    renewed = stage.authority.renewed(stage.now)
    assert stage.identities.take(renewed)
    assert stage.identities.roots.count("BEGIN CERTIFICATE") == 2
    assert stage.identities.of_envoy("shop/front")[1] != first[1]
