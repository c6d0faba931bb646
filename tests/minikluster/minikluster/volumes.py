"""The volumes of a pod: folders that follow the ConfigMaps, Secrets and tokens that they show."""

import shutil
import time
from pathlib import Path

from .kube import ApiError, Kube
from .manifest import Manifest
from .podspec import UnavailableError, data_of, field, resource

_Files = dict[str, tuple[bytes, int]]
"""Contents and mode by path."""

_READABLE = 0o644
_RENEW = 0.8  # of a token's time


class Volume:
    """One volume of a pod; `path` is what the containers' mounts bind."""

    def __init__(self, kube: Kube, pod: Manifest, spec: Manifest, folder: Path, pod_ip: str) -> None:
        self._kube, self._pod, self._spec, self._pod_ip = kube, pod, spec, pod_ip
        self.name, self.path = spec["name"], folder / spec["name"]
        self._current: _Files | None = None
        self._tokens: dict[str, tuple[float, bytes]] = {}

    async def refresh(self) -> None:
        """Create the volume, or bring its contents up to date."""
        spec = self._spec
        if "emptyDir" in spec:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o777)
        elif "hostPath" in spec:
            self._host_path(spec["hostPath"])
        else:
            files = await self._declared(spec)
            if files != self._current:
                self._write(files)
                self._current = files

    def _host_path(self, source: Manifest) -> None:
        self.path = Path(source["path"])
        if source.get("type") == "DirectoryOrCreate":
            self.path.mkdir(parents=True, exist_ok=True)
        elif not self.path.exists():
            raise UnavailableError(f"hostPath {self.path} does not exist")

    async def _declared(self, spec: Manifest) -> _Files:
        kind = next((each for each in ("configMap", "secret", "projected", "downwardAPI") if each in spec), None)
        if kind is None:
            raise UnavailableError(f'volume "{self.name}": kind not supported by minikluster: {sorted(spec)}')
        mode = spec[kind].get("defaultMode", _READABLE)
        if kind != "projected":
            return await self._files(kind, spec[kind], mode)
        files: _Files = {}
        for source in spec[kind]["sources"]:
            ((name, body),) = source.items()
            files |= await self._files(name, body, mode)
        return files

    async def _files(self, kind: str, body: Manifest, mode: int) -> _Files:
        if kind == "serviceAccountToken":
            return {body["path"]: (await self._token(body), mode)}
        if kind == "downwardAPI":
            return {item["path"]: (self._fact(item).encode(), item.get("mode", mode)) for item in body.get("items", [])}
        if kind not in ("configMap", "secret"):
            raise UnavailableError(f'volume "{self.name}": source {kind} not supported by minikluster')
        name, optional = body.get("secretName") or body["name"], body.get("optional", False)
        namespace = self._pod["metadata"]["namespace"]
        data = await data_of(self._kube, kind.lower() + "s", namespace, name, optional=optional)
        if "items" not in body:
            return {key: (value, mode) for key, value in data.items()}
        missing = [item["key"] for item in body["items"] if item["key"] not in data]
        if missing and not optional:
            raise UnavailableError(f'no key {missing[0]} in {kind} "{name}"')
        items = [item for item in body["items"] if item["key"] in data]
        return {item["path"]: (data[item["key"]], item.get("mode", mode)) for item in items}

    def _fact(self, item: Manifest) -> str:
        if "resourceFieldRef" in item:
            return resource(self._pod, item["resourceFieldRef"], "")
        return field(self._pod, item["fieldRef"]["fieldPath"], self._pod_ip)

    async def _token(self, body: Manifest) -> bytes:
        renew, token = self._tokens.get(body["path"], (0, b""))
        if time.time() < renew:
            return token
        meta = self._pod["metadata"]
        account = self._pod["spec"].get("serviceAccountName", "default")
        seconds = body.get("expirationSeconds", 3600)
        spec = {
            "audiences": [body["audience"]] if body.get("audience") else [],
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        try:
            answer = await self._kube.request("POST", path, {"spec": spec})
        except ApiError as error:
            raise UnavailableError(f"token of {account}: {error}") from error
        token = str(answer["status"]["token"]).encode()
        self._tokens[body["path"]] = time.time() + seconds * _RENEW, token
        return token

    def _write(self, files: _Files) -> None:
        """All files change at once: ..data is a symbolic link that is replaced, as kubelet does it."""
        fresh = self.path / f"..{time.time_ns()}"
        fresh.mkdir(parents=True)
        for name, (data, mode) in files.items():
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(mode)
        link, draft = self.path / "..data", self.path / "..data_tmp"
        old = self.path / link.readlink() if link.is_symlink() else None
        draft.symlink_to(fresh.name)
        draft.rename(link)
        tops = {name.split("/")[0] for name in files}
        for entry in self.path.iterdir():
            if not entry.name.startswith("..") and entry.name not in tops:
                entry.unlink()
        for name in tops:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        if old:
            shutil.rmtree(old, ignore_errors=True)
