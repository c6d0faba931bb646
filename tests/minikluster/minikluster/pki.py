"""One certificate authority and the few certificates of a throw-away cluster (openssl)."""

import base64
import json
import subprocess

from .config import KUBECONFIG, NODE, NODE_IP, PKI, SERVER

_DAYS = "3650"
_API_NAMES = (
    f"IP:{NODE_IP}", "IP:127.0.0.1", "IP:10.96.0.1", "DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc", "DNS:kubernetes.default.svc.cluster.local",
)  # fmt: skip
_LEAVES = {  # name: (subject, alternative names)
    "apiserver": ("/CN=kube-apiserver", _API_NAMES),
    "kubelet": (f"/O=system:nodes/CN=system:node:{NODE}", (f"IP:{NODE_IP}", f"DNS:{NODE}")),
    "admin": ("/O=system:masters/CN=minikluster-admin", ()),
}


def _openssl(*args: str) -> None:
    subprocess.run(["openssl", *args], cwd=PKI, check=True, capture_output=True)


def create() -> None:
    """Write the keys, the certificates and the administrator's kubeconfig."""
    PKI.mkdir(parents=True, mode=0o700, exist_ok=True)
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
    authority = ("-subj", "/CN=minikluster-ca", "-days", _DAYS, "-addext", usage)
    _openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", *authority)
    for name, (subject, names) in _LEAVES.items():
        _openssl("req", "-new", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        extensions = ["extendedKeyUsage=serverAuth,clientAuth", "keyUsage=critical,digitalSignature"]
        if names:
            extensions.append("subjectAltName=" + ",".join(names))
        (PKI / f"{name}.ext").write_text("\n".join(extensions) + "\n")
        signer = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", _DAYS, "-extfile", f"{name}.ext")
        _openssl("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.crt")
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "sa.key")
    _openssl("pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub")
    KUBECONFIG.touch(mode=0o600)
    KUBECONFIG.write_text(kubeconfig(SERVER))


def kubeconfig(server: str) -> str:
    """The administrator's kubeconfig, for the API server at a URL."""

    def data(name: str) -> str:
        return base64.b64encode((PKI / name).read_bytes()).decode()

    name = "minikluster"
    user = {"client-certificate-data": data("admin.crt"), "client-key-data": data("admin.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    return json.dumps(config, indent=1) + "\n"
