"""What the options of `pointsman picker` mean."""

from pathlib import Path

import grpc

from picker import CertificateError, Credentials, Teacher, from_folder, self_signed
from pointsman.failure import Failure
from protos.pointsman.envoy.v1.ext_proc_pb2 import BodySendMode


def teacher_of(
    pool: str, *, xds: str, folder: Path | None, kubernetes: bool, kubeconfig: Path | None, context: str | None
) -> Teacher | None:
    """Return who tells of pools by these options of the command line, None for the control plane.

    Failure for options that do not go together.
    """
    if sum(map(bool, (xds, folder, kubernetes))) != 1:
        raise Failure("one of --xds, --folder and --kubernetes says where to learn of pools")
    namespace, slash, name = pool.partition("/")
    if pool and not (namespace and slash and name):
        raise Failure(f"--pool {pool}: not NAMESPACE/NAME")
    if xds:
        return None
    if not pool:
        raise Failure("--pool says which pool to pick for where there is no control plane")
    # Reading manifests and translating them take most of a second to load: only who is alone needs them.
    from pointsman.lone_picker import ClusterTeacher, FolderTeacher  # noqa: PLC0415

    return ClusterTeacher(kubeconfig, context, pool) if folder is None else FolderTeacher(folder, pool)


def proof_of(trust: Path | None, token: Path | None, certificate: Path | None, pool: str) -> Credentials | None:
    """Return how control plane and picker know each other.  Failure for options that do not go together."""
    if trust is None and token is None and certificate is None:
        return None
    if trust is None or (token is None) == (certificate is None):
        raise Failure("--trust belongs together with one of --token and --certificate")
    if pool:
        raise Failure("--trust, --token and --certificate are for the pickers of our own gateway, not for --pool")
    return Credentials(trust, token, certificate)


def credentials_of(tls: str) -> grpc.ServerCredentials | None:
    """Return what --tls asks for.  Failure where its folder holds no certificate."""
    if tls == "off":
        return None
    try:
        return self_signed() if tls == "self-signed" else from_folder(Path(tls))
    except CertificateError as error:
        raise Failure(f"--tls {error}") from None


def body_mode_of(word: str) -> int:
    """Return the mode that --body-mode names."""
    return BodySendMode.Value(word.replace("-", "_").upper())
