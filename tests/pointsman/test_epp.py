"""What the Inference Extension's flags mean to our picker."""

import pytest

from pointsman.epp import picker_words
from pointsman.failure import Failure


def test_flags_of_another_picker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMESPACE", "shop")
    flags = "-poolName chat -v 4 --zap-encoder json -grpcPort 9102 --secure-serving=false"
    ports = "--listen 0.0.0.0:9102 --health 0.0.0.0:9003 --metrics 0.0.0.0:9090"
    assert " ".join(picker_words(flags.split())) == f"--kubernetes --pool shop/chat {ports} --tls off"


def test_a_pool_has_to_be_named() -> None:
    with pytest.raises(Failure, match="-poolName: no pool is given"):
        picker_words(["-grpcPort", "9002"])
