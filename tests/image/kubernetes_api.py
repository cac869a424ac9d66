"""Kubernetes's API, as far as the KubernetesExecutor asks it for anything.

It keeps pods in memory and runs none of them: ``tests/image/cluster.py`` does. It speaks TLS,
because clients in a pod do nothing else; it knows its callers by the tokens of their service
accounts, and lets them do what the Roles of the chart say. (kmock, on PyPI, has neither TLS nor
selectors nor rights.)
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Pod = dict[str, Any]
Rules = Sequence[Mapping[str, Sequence[str]]]

_PODS = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods(/(?P<name>[^/]+))?")
_TERM = re.compile(r"([^!=\s]+)\s*(=|!=)\s*([^!=\s]+)")
# What everyone with a token may read, in any cluster.
_DISCOVERY = {
    "/version": {"major": "1", "minor": "34"},
    "/apis": {"kind": "APIGroupList", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["get", "list", "watch"]}
        ],
    },
}


@dataclass
class Caller:
    """Who has a token.

    Attributes:
        rules: Of its Role.
        done: What it has done: verbs with what they were for, such as ``create pods``.
        refused: What it was not allowed.
    """

    rules: Rules
    done: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    def may(self, verb: str, resource: str) -> bool:
        """Whether its Role allows this; remembers what was asked."""
        allowed = any(
            verb in rule["verbs"] and resource in rule["resources"] for rule in self.rules
        )
        (self.done if allowed else self.refused).add(f"{verb} {resource}")
        return allowed


class KubernetesApi:
    """The API of one namespace; also a context manager.

    Args:
        address: The IP address where it listens, at any free port.
        folder: For its key and its certificate, which is its own authority.
        callers: By the names of their service accounts.
        created: Told of each new pod, in a thread of the request's own.

    Attributes:
        certificate: The file by which clients know it.
    """

    def __init__(
        self,
        address: str,
        folder: Path,
        callers: Mapping[str, Caller],
        created: Callable[[Pod], None],
    ) -> None:
        self.callers = callers
        self._tokens = {account: token_hex() for account in callers}
        self.created = created
        self.certificate, key = folder / "ca.crt", folder / "ca.key"
        request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kubernetes")
        names = ("-addext", f"subjectAltName=IP:{address}")
        files = ("-keyout", key, "-out", self.certificate)
        subprocess.run(["openssl", *request, *names, *files], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.certificate, key)
        self._server = _Server((address, 0), _Handler)
        self._server.api = self
        self._server.socket = tls.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.address, self.port = address, self._server.server_port
        self._pods: dict[str, Pod] = {}
        self._version = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def token(self, account: str) -> str:
        """The token of a service account."""
        return self._tokens[account]

    def caller(self, token: str) -> Caller | None:
        """Who has a token; None: nobody."""
        found = [account for account, known in self._tokens.items() if known == token]
        return self.callers[found[0]] if found else None

    def create(self, namespace: str, pod: Pod) -> Pod:
        """Take a pod; it is pending until somebody says something else."""
        pod["metadata"]["namespace"] = namespace
        pod["status"] = {"phase": "Pending"}
        self._put(pod)
        threading.Thread(target=self.created, args=(pod,), daemon=True).start()
        return pod

    def set_phase(self, name: str, phase: str) -> None:
        """Say what has become of a pod, unless it is gone."""
        with self._changed:
            if pod := self._pods.get(name):
                self._put({**pod, "status": {"phase": phase}})

    def get(self, name: str) -> Pod | None:
        """A pod; None: it is not there."""
        return self._pods.get(name)

    def patch(self, name: str, metadata: Mapping[str, Any]) -> Pod:
        """Change labels and annotations."""
        with self._changed:
            pod = self._pods[name]
            old = pod["metadata"]
            changed = {key: {**old.get(key, {}), **value} for key, value in metadata.items()}
            return self._put({**pod, "metadata": {**old, **changed}})

    def delete(self, name: str) -> Pod | None:
        """Forget a pod."""
        with self._changed:
            self._changed.notify_all()
            return self._pods.pop(name, None)

    def list(self, selects: Callable[[Pod], bool]) -> list[Pod]:
        """The pods that somebody wants."""
        with self._changed:
            return [pod for pod in self._pods.values() if selects(pod)]

    def watch(self, selects: Callable[[Pod], bool]) -> Iterator[dict[str, Any]]:
        """What becomes of them: a pod that is no longer selected counts as deleted."""
        seen: dict[str, Pod] = {}
        while not self._is_closed:
            with self._changed:
                now = {pod["metadata"]["name"]: pod for pod in self._pods.values() if selects(pod)}
                if now == seen:
                    self._changed.wait(1)
                    continue
                gone = [pod for name, pod in seen.items() if name not in now]
                events = [("DELETED", self._pods.get(pod["metadata"]["name"], pod)) for pod in gone]
                events += [
                    ("MODIFIED" if name in seen else "ADDED", pod)
                    for name, pod in now.items()
                    if seen.get(name) != pod
                ]
                seen = now
            for kind, pod in events:
                yield {"type": kind, "object": pod}

    def _put(self, pod: Pod) -> Pod:
        with self._changed:
            self._version += 1
            name = pod["metadata"]["name"]
            pod["metadata"] = {**pod["metadata"], "resourceVersion": str(self._version)}
            self._pods[name] = pod
            self._changed.notify_all()
            return pod


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: KubernetesApi


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = self._asked()
        if path in _DISCOVERY:
            self._answer(_DISCOVERY[path])
        elif found := self._pods_of(path):
            name, api = found["name"], self.server.api
            watches = query.get("watch") in ("true", "True")
            verb = "get" if name else "watch" if watches else "list"
            if not self._may(verb, "pods"):
                return
            if name:
                self._answer_pod(name, api.get(name))
            elif watches:
                self._stream(api.watch(_selector(query)))
            else:
                pods = api.list(_selector(query))
                self._answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
        else:
            self._refuse(404, f"there is no {path} here")

    def do_POST(self) -> None:
        found = self._pods_of(self._asked()[0])
        body = self._body()
        if found and self._may("create", "pods"):
            self._answer(self.server.api.create(found["namespace"], body), 201)

    def do_PATCH(self) -> None:
        found = self._pods_of(self._asked()[0])
        body = self._body()
        if found and self._may("patch", "pods"):
            self._answer(self.server.api.patch(found["name"], body["metadata"]))

    def do_DELETE(self) -> None:
        found = self._pods_of(self._asked()[0])
        self._body()
        if found and self._may("delete", "pods"):
            self._answer_pod(found["name"], self.server.api.delete(found["name"]))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _asked(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        return url.path, {name: values[-1] for name, values in parse_qs(url.query).items()}

    def _pods_of(self, path: str) -> re.Match[str] | None:
        return _PODS.fullmatch(path)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "null")

    def _may(self, verb: str, resource: str) -> bool:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        caller = self.server.api.caller(token.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            self._refuse(401, "nobody has this token")
        elif not caller.may(verb, resource):
            self._refuse(403, f"it may not {verb} {resource}")
        else:
            return True
        return False

    def _answer_pod(self, name: str, pod: Pod | None) -> None:
        if pod:
            self._answer(pod)
        else:
            self._refuse(404, f"there is no pod {name}")

    def _refuse(self, status: int, message: str) -> None:
        self._answer({"kind": "Status", "status": "Failure", "message": message}, status)

    def _answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        # Clients read chunk by chunk; without chunks they would wait for the end.
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # A client that has had enough closes the connection.
        with suppress(OSError):
            for event in events:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")


def _selector(query: Mapping[str, str]) -> Callable[[Pod], bool]:
    """Whether a pod is asked for by its labels, and by fields such as ``status.phase``."""
    labels = _terms(query.get("labelSelector", ""))
    fields = _terms(query.get("fieldSelector", ""))

    def selects(pod: Pod) -> bool:
        own = pod["metadata"].get("labels", {})
        # The only field that is asked for.
        phase = {"status.phase": pod["status"]["phase"]}
        return all(
            (have.get(name) == value) == wanted
            for have, terms in ((own, labels), (phase, fields))
            for name, wanted, value in terms
        )

    return selects


def _terms(selector: str) -> list[tuple[str, bool, str]]:
    found = [_TERM.fullmatch(term.strip()) for term in selector.split(",") if term]
    assert all(found), f"a selector that this server does not know: {selector}"
    return [(match[1], match[2] == "=", match[3]) for match in found if match]
