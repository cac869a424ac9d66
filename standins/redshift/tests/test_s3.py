from __future__ import annotations

import os
from pathlib import Path

import boto3
import obstore
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from obstore.store import S3Store

from redshift_standin import s3
from redshift_standin.s3 import S3Server

pytestmark = pytest.mark.service

MB = 1024 * 1024


def open_store(server: S3Server, bucket: str) -> S3Store:
    endpoint = server.endpoint
    return S3Store(
        bucket,
        endpoint=endpoint.endpoint_url,
        access_key_id=endpoint.access_key_id,
        secret_access_key=endpoint.secret_access_key,
        region=endpoint.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def keys(store: S3Store, prefix: str) -> list[str]:
    return sorted(entry["path"] for page in obstore.list(store, prefix) for entry in page)


def test_what_boto3_writes_obstore_reads_lists_overwrites_and_deletes(
    s3_server: S3Server, bucket: str
):
    client, store = s3_server.endpoint.client(), open_store(s3_server, bucket)
    for key, body in [("a/1", b"one"), ("a/2", b"two"), ("b/1", b"three")]:
        client.put_object(Bucket=bucket, Key=key, Body=body)
    assert keys(store, "a") == ["a/1", "a/2"]
    assert bytes(obstore.get_range(store, "b/1", start=1, end=4)) == b"hre"
    obstore.put(store, "a/1", b"newer")
    assert bytes(obstore.get(store, "a/1").bytes()) == b"newer"
    obstore.delete(store, "a/1")
    assert keys(store, "a") == ["a/2"]


def test_a_large_object_goes_up_in_parts_and_comes_back_the_same(s3_server: S3Server, bucket: str):
    store, body = open_store(s3_server, bucket), os.urandom(21 * MB)
    with obstore.open_writer(store, "large", buffer_size=8 * MB) as writer:
        for start in range(0, len(body), MB):
            writer.write(body[start : start + MB])
    assert obstore.head(store, "large")["size"] == len(body)
    assert bytes(obstore.get(store, "large").bytes()) == body
    middle = bytes(obstore.get_range(store, "large", start=7 * MB, end=9 * MB))
    assert middle == body[7 * MB : 9 * MB]


def test_an_upload_ended_by_an_error_leaves_nothing(s3_server: S3Server, bucket: str):
    store = open_store(s3_server, bucket)

    def write_and_fail() -> None:
        with obstore.open_writer(store, "broken", buffer_size=8 * MB) as writer:
            writer.write(bytes(20 * MB))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert keys(store, "") == []
    uploads = s3_server.endpoint.client().list_multipart_uploads(Bucket=bucket)
    assert "Uploads" not in uploads


def test_writing_to_a_missing_bucket_fails_and_does_not_make_it(s3_server: S3Server):
    client = s3_server.endpoint.client()
    with pytest.raises(ClientError, match="NoSuchBucket"):
        client.put_object(Bucket="no-such-bucket", Key="k", Body=b"")
    names = [entry["Name"] for entry in client.list_buckets()["Buckets"]]
    assert "no-such-bucket" not in names


def test_nobody_comes_in_without_the_right_keys(s3_server: S3Server, bucket: str):
    url, region = s3_server.endpoint.endpoint_url, s3_server.endpoint.region
    anonymous = boto3.client(
        "s3", endpoint_url=url, region_name=region, config=Config(signature_version=UNSIGNED)
    )
    wrong = boto3.client(
        "s3",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=s3_server.endpoint.access_key_id,
        aws_secret_access_key="wrong",
    )
    for client in (anonymous, wrong):
        with pytest.raises(ClientError, match=r"AccessDenied|SignatureDoesNotMatch"):
            client.put_object(Bucket=bucket, Key="k", Body=b"")
        with pytest.raises(ClientError, match=r"AccessDenied|SignatureDoesNotMatch"):
            client.list_objects_v2(Bucket=bucket)


def test_every_port_is_on_loopback(s3_server: S3Server):
    assert listening_addresses(s3_server) == {"0100007F"}


def test_a_bucket_may_be_created_again(s3_server: S3Server, bucket: str):
    s3_server.create_bucket(bucket)


def test_data_and_keys_survive_a_restart_on_other_ports(tmp_path: Path):
    server = S3Server(tmp_path, port=0)
    body = os.urandom(9 * MB)
    try:
        first = server.start()
        server.create_bucket("kept")
        first.client().put_object(Bucket="kept", Key="k", Body=body)
        server.stop()
        assert not server.is_running()
        port = first.endpoint_url.rpartition(":")[2]
        sockets = Path("/tmp").glob(f"seaweedfs-*-{port}.sock")  # noqa: S108
        assert list(sockets) == []
        second = server.start()
        assert second.secret_access_key == first.secret_access_key
        assert second.client().get_object(Bucket="kept", Key="k")["Body"].read() == body
        disk_use = sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*"))
        assert disk_use < 2 * len(body)
    finally:
        server.stop()


def test_keys_are_private(s3_server: S3Server):
    for name in ("endpoint.json", "identities.json"):
        assert (s3_server.folder / name).stat().st_mode & 0o777 == 0o600
    assert s3_server.endpoint.secret_access_key not in repr(s3_server.endpoint)


def listening_addresses(server: S3Server) -> set[str]:
    """The addresses, in hex, of the TCP sockets on which the server's process listens."""
    links = [str(link.readlink()) for link in Path(f"/proc/{server.pid}/fd").iterdir()]
    inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                addresses.add(fields[1].partition(":")[0])
    return addresses


@pytest.mark.parametrize("refused", ["create_bucket", "put_object"])
def test_a_server_whose_parts_have_not_met_is_not_ready(s3_server: S3Server, refused: str):
    client = s3_server.endpoint.client()
    with Stubber(client) as stub:
        if refused == "put_object":
            stub.add_response("create_bucket", {})
        stub.add_client_error(refused, "InternalError", http_status_code=500)
        assert not s3.works(client)
    assert s3.works(client)


def test_a_server_that_was_ended_while_it_started_starts_again(tmp_path: Path):
    server = S3Server(tmp_path / "s3", port=0)
    with server:
        server.endpoint.client().create_bucket(Bucket=s3.PROBE)
    with server:
        assert server.endpoint.client().list_buckets()["Buckets"] == []


def test_a_bucket_of_an_account_of_before_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as before, S3Server(tmp_path / "s3", port=0) as server:
        before.setattr(s3, "_ACCOUNT", "another")
        server.stop()
        server.start()
        server.create_bucket("bucket")
        server.endpoint.client().put_object(Bucket="bucket", Key="key", Body=b"value")
    with S3Server(tmp_path / "s3", port=0) as server:
        server.create_bucket("bucket")
        found = server.endpoint.client().get_object(Bucket="bucket", Key="key")
        assert found["Body"].read() == b"value"
