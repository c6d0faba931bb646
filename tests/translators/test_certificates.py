"""Certificates: what is refused is what Envoy refuses, and no key is ever shown."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from certificates import Pair, pair
from envoy_check import Batch
from manifests import translation_of

from translators import Translation
from translators.features.tls_termination import secret_of
from translators.ir import Certificate

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: a}]}}]
"""
GOOD = pair("a.example.com")
PAIRS = {
    "good": GOOD,
    "P-384": pair("a.example.com", key="P-384"),
    "RSA-2048": pair("a.example.com", key="RSA-2048"),
    "P-224": pair("a.example.com", key="P-224"),
    "RSA-1024": pair("a.example.com", key="RSA-1024"),
    "Ed25519": pair("a.example.com", key="Ed25519"),
    "Ed448": pair("a.example.com", key="Ed448"),
    "encrypted": pair("a.example.com", password=b"locked"),
    "mismatch": Pair(GOOD.chain, pair("b.example.com").key),
    "chain": Pair(GOOD.chain + pair("b.example.com").chain, GOOD.key),
    "chain in the wrong order": Pair(pair("b.example.com").chain + GOOD.chain, GOOD.key),
    "text": Pair(b"Hello", b"Hello"),
    "empty": Pair(b"", b""),
    "key for a certificate": Pair(GOOD.key, GOOD.key),
    "certificate for a key": Pair(GOOD.chain, GOOD.chain),
    "half a certificate": Pair(GOOD.chain[: len(GOOD.chain) // 2], GOOD.key),
    "half a key": Pair(GOOD.chain, GOOD.key[: len(GOOD.key) // 2]),
    "words around it": Pair(b"Bag Attributes\n" + GOOD.chain, b"Bag Attributes\n" + GOOD.key),
}


def translated(secret: Pair) -> Translation:
    return translation_of(GATEWAY, yaml.safe_dump(secret.secret("a")))


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_refused_is_what_envoy_refuses(name: str, tmp_path: Path) -> None:
    made = PAIRS[name]
    refused = bool(translated(made).problems)
    resources = translated(GOOD).gateways["default/gw"]
    message = secret_of(Certificate("secret/default/a", "", made.chain, made.key))
    changed = tuple(replace(each, message=message) if each.name == message.name else each for each in resources)
    assert changed != resources
    complaint = Batch((("gw", changed),)).complaint(tmp_path)
    assert bool(complaint) == refused, (translated(made).problems, complaint)


@pytest.mark.parametrize("name", PAIRS)
def test_no_text_shows_a_key(name: str) -> None:
    found = translated(PAIRS[name])
    lines = [line.decode() for line in PAIRS[name].key.splitlines() if len(line) > 20 and b"-----" not in line]
    text = f"{found!r} {found.problems} {found.statuses} {found.summary}"
    assert not [line for line in lines if line in text]


def test_another_certificate_changes_nothing_but_its_secret() -> None:
    before = {(each.type_url, each.name): each.message for each in translated(GOOD).gateways["default/gw"]}
    renewed = translated(pair("a.example.com", serial=2)).gateways["default/gw"]
    changed = [each.name for each in renewed if before[each.type_url, each.name] != each.message]
    assert changed == ["secret/default/a"]


def test_the_listener_stays_where_its_only_certificate_becomes_unreadable() -> None:
    before = {each.name: each.message for each in translated(GOOD).gateways["default/gw"]}
    after = {each.name: each.message for each in translated(PAIRS["text"]).gateways["default/gw"]}
    assert before.keys() - after.keys() == {"secret/default/a"}
    assert all(before[name] == message for name, message in after.items())
