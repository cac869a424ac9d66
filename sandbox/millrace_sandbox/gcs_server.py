"""Google Cloud Storage on a folder: the part of its XML API that the landing uses.

    python -m millrace_sandbox.gcs_server FOLDER PORT

Buckets are the folders in ``FOLDER/buckets``, and an object is a file at its name there, so that
the BigQuery emulator reads the same objects. What is not needed is refused, not ignored.
https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4
from xml.etree import ElementTree

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sheets_standin.accounts import Accounts, TokenRefused
from sheets_standin.errors import ApiError

_SCOPE = "https://www.googleapis.com/auth/devstorage."
WRITES = {f"{_SCOPE}read_write", f"{_SCOPE}full_control"}
READS = {*WRITES, f"{_SCOPE}read_only"}
# https://cloud.google.com/storage/quotas#requests
_LEAST_PART_BYTES = 5 * 1024 * 1024
_LISTED = 1000


class Refused(Exception):
    """An error, as https://cloud.google.com/storage/docs/xml-api/reference-status has it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Storage:
    """The buckets in a folder.

    Args:
        folder: Where they are, with the uploads that are not finished.
    """

    def __init__(self, folder: Path) -> None:
        self._buckets, self._uploads = folder / "buckets", folder / "uploads"
        for made in (self._buckets, self._uploads):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)

    def list(self, bucket: str, query: Mapping[str, str]) -> Response:
        """The objects of a bucket, by name; see ``list-type=2``."""
        root, prefix = self._bucket(bucket), query.get("prefix", "")
        names = sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())
        after = query.get("continuation-token", "")
        found = [name for name in names if name.startswith(prefix) and name > after]
        most = int(query.get("max-keys", _LISTED))
        entries = []
        for name in found[:most]:
            about = (root / name).stat()
            entries.append(
                {
                    "Key": name,
                    "Size": about.st_size,
                    "LastModified": _time(about.st_mtime),
                    "ETag": _etag(about),
                }
            )
        is_more = len(found) > most
        next_ = {"NextContinuationToken": found[most - 1]} if is_more else {}
        return _xml(
            "ListBucketResult",
            {"Name": bucket, "Prefix": prefix, "IsTruncated": str(is_more).lower(), **next_},
            Contents=entries,
        )

    def list_uploads(self, bucket: str, query: Mapping[str, str]) -> Response:
        """The unfinished uploads of a bucket."""
        self._bucket(bucket)
        entries = []
        for folder in self._uploads.iterdir():
            about = json.loads((folder / "about.json").read_text())
            if about["bucket"] == bucket and about["Key"].startswith(query.get("prefix", "")):
                entries.append(
                    {"Key": about["Key"], "UploadId": folder.name, "Initiated": about["Initiated"]}
                )
        return _xml(
            "ListMultipartUploadsResult",
            {"Bucket": bucket, "IsTruncated": "false"},
            Upload=sorted(entries, key=lambda entry: entry["Key"]),
        )

    def get(self, bucket: str, name: str) -> Response:
        """An object; also answers HEAD."""
        file = self._object(bucket, name)
        if not file.is_file():
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        return FileResponse(file, headers=_about(file))

    async def put(self, bucket: str, name: str, request: Request) -> Response:
        """Write an object as a whole."""
        file = self._object(bucket, name)
        if request.headers.get("x-goog-if-generation-match") == "0" and file.exists():
            raise Refused(412, "PreconditionFailed", "The object is there already.")
        draft = await self._received(request)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(file)
        return Response(headers=_about(file))

    def delete(self, bucket: str, name: str) -> Response:
        """Delete an object."""
        file = self._object(bucket, name)
        if not file.is_file():
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        file.unlink()
        return Response(status_code=204)

    def begin(self, bucket: str, name: str) -> Response:
        """Begin an upload of parts."""
        self._object(bucket, name)
        upload = self._uploads / uuid4().hex
        upload.mkdir()
        about = {"bucket": bucket, "Key": name, "Initiated": _time(datetime.now(UTC).timestamp())}
        (upload / "about.json").write_text(json.dumps(about))
        return _xml(
            "InitiateMultipartUploadResult",
            {"Bucket": bucket, "Key": name, "UploadId": upload.name},
        )

    async def put_part(self, upload_id: str, number: str, request: Request) -> Response:
        """Write a part of an upload."""
        upload = self._upload(upload_id)
        part = upload / f"part-{int(number):05d}"
        draft = await self._received(request)
        draft.replace(part)
        return Response(headers=_about(part))

    async def complete(self, bucket: str, name: str, upload_id: str, request: Request) -> Response:
        """Make an object of the parts of an upload."""
        upload, file = self._upload(upload_id), self._object(bucket, name)
        parts = []
        for wanted in ElementTree.fromstring(await request.body()).iter():  # noqa: S314 our own client
            if wanted.tag.endswith("Part"):
                number, etag = (
                    next(child.text for child in wanted if child.tag.endswith(tag)) or ""
                    for tag in ("PartNumber", "ETag")
                )
                part = upload / f"part-{int(number):05d}"
                if not part.exists() or _etag(part.stat()).strip('"') != etag.strip('"'):
                    raise Refused(400, "InvalidPart", "A part was not found, or is another.")
                parts.append(part)
        if any(part.stat().st_size < _LEAST_PART_BYTES for part in parts[:-1]):
            raise Refused(400, "EntityTooSmall", "A part but the last is smaller than 5 MiB.")
        with self._draft() as draft:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, draft)
        file.parent.mkdir(parents=True, exist_ok=True)
        Path(draft.name).replace(file)
        shutil.rmtree(upload)
        return _xml(
            "CompleteMultipartUploadResult",
            {"Bucket": bucket, "Key": name, "ETag": _etag(file.stat())},
        )

    def abort(self, upload_id: str) -> Response:
        """Abort an upload."""
        shutil.rmtree(self._upload(upload_id))
        return Response(status_code=204)

    async def _received(self, request: Request) -> Path:
        """The body of a request as a file, which takes its place when it is complete."""
        with self._draft() as draft:
            async for chunk in request.stream():
                draft.write(chunk)
        return Path(draft.name)

    def _draft(self) -> Any:
        return NamedTemporaryFile(dir=self._buckets.parent, prefix="draft-", delete=False)

    def _bucket(self, bucket: str) -> Path:
        root = self._buckets / bucket
        if not root.is_dir():
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
        return root

    def _object(self, bucket: str, name: str) -> Path:
        if set(name.split("/")) & {"", ".", ".."}:
            raise Refused(400, "InvalidObjectName", "Not a file's path, so not kept here.")
        return self._bucket(bucket) / name

    def _upload(self, upload_id: str) -> Path:
        upload = self._uploads / Path(upload_id).name
        if not upload.is_dir():
            raise Refused(404, "NoSuchUpload", "The requested upload was not found.")
        return upload


def create_app(folder: Path, key: dict[str, str]) -> Starlette:
    """The application.

    Args:
        folder: Where everything is kept.
        key: The key of the service account that may use it.
    """
    storage, accounts = Storage(folder), Accounts(key, READS, WRITES)

    async def token(request: Request) -> Response:
        asked = parse_qs((await request.body()).decode())
        form = {name: values[0] for name, values in asked.items()}
        try:
            granted = accounts.grant(form.get("grant_type", ""), form.get("assertion", ""))
        except TokenRefused as refusal:
            said = {"error": refusal.error, "error_description": refusal.description}
            return JSONResponse(said, status_code=400)
        return JSONResponse(granted)

    async def answer(request: Request) -> Response:
        try:
            try:
                accounts.authorize(
                    request.headers.get("authorization"),
                    writes=request.method not in ("GET", "HEAD"),
                )
            except ApiError as error:
                code = "AccessDenied" if error.code == 403 else "AuthenticationRequired"
                raise Refused(error.code, code, error.message) from None
            return await _routed(storage, request)
        except Refused as refusal:
            return _xml(
                "Error", {"Code": refusal.code, "Message": refusal.message}, status=refusal.status
            )

    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    return Starlette(
        routes=[
            Route("/token", token, methods=["POST"]),
            Route("/{bucket}", answer, methods=["GET"]),
            Route("/{bucket}/{name:path}", answer, methods=methods),
        ]
    )


async def _routed(storage: Storage, request: Request) -> Response:
    bucket, name = request.path_params["bucket"], request.path_params.get("name")
    query, method = dict(request.query_params), request.method
    match (method, bool(name), set(query)):
        case ("GET", False, given) if given <= _OF_LISTS | {"list-type"} and "list-type" in given:
            return storage.list(bucket, query)
        case ("GET", False, given) if given <= {"uploads", "prefix"} and "uploads" in given:
            return storage.list_uploads(bucket, query)
        case ("GET" | "HEAD", True, given) if not given:
            return storage.get(bucket, str(name))
        case ("PUT", True, given) if not given:
            return await storage.put(bucket, str(name), request)
        case ("PUT", True, given) if given == {"partNumber", "uploadId"}:
            return await storage.put_part(query["uploadId"], query["partNumber"], request)
        case ("POST", True, given) if given == {"uploads"}:
            return storage.begin(bucket, str(name))
        case ("POST", True, given) if given == {"uploadId"}:
            return await storage.complete(bucket, str(name), query["uploadId"], request)
        case ("DELETE", True, given) if given == {"uploadId"}:
            return storage.abort(query["uploadId"])
        case ("DELETE", True, given) if not given:
            return storage.delete(bucket, str(name))
    raise Refused(501, "NotImplemented", f"{method} {request.url.query}")


_OF_LISTS = {"prefix", "max-keys", "continuation-token"}


def _xml(
    root: str,
    values: Mapping[str, Any],
    status: int = 200,
    **lists: list[dict[str, Any]],
) -> Response:
    element = ElementTree.Element(root)
    for name, value in values.items():
        ElementTree.SubElement(element, name).text = str(value)
    for name, entries in lists.items():
        for entry in entries:
            child = ElementTree.SubElement(element, name)
            for key, value in entry.items():
                ElementTree.SubElement(child, key).text = str(value)
    body = ElementTree.tostring(element, encoding="utf-8", xml_declaration=True)
    return Response(body, status, media_type="application/xml")


def _about(file: Path) -> dict[str, str]:
    about = file.stat()
    return {"etag": _etag(about), "x-goog-generation": str(about.st_mtime_ns // 1000)}


def _etag(about: os.stat_result) -> str:
    """What another object of the name does not have; Google's is often the MD5 of the object."""
    return f'"{about.st_mtime_ns:x}-{about.st_size:x}"'


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def main(folder: Path, port: int) -> None:
    """Serve on loopback until SIGTERM."""
    key = json.loads((folder / "key.json").read_text())
    uvicorn.run(
        create_app(folder, key), host="127.0.0.1", port=port, log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
