"""Folders and buckets behave alike."""

import io
import os
import pickle
import random
import re
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sharding.storage import s3
from sharding.storage.location import open_location, split_url
from sharding.storage.s3 import Bucket
from stn_icnn import storage
from stn_icnn.storage import Folder, StorageLocation


@pytest.fixture(params=["folder", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StorageLocation:
    if request.param == "folder":
        return open_location(tmp_path / "folder")
    return open_location(request.getfixturevalue("bucket") + "/some/prefix")


def test_write_read_list_delete(location: StorageLocation):
    assert location.list() == []
    location.write("b/2.txt", b"two")
    location.write("a.txt", b"one")
    location.write("a.txt", b"uno")
    location.upload(io.BytesIO(b"three"), "b/1.txt")
    location.write("bb/3.txt", b"beside")
    assert location.list() == ["a.txt", "b/1.txt", "b/2.txt", "bb/3.txt"]
    assert location.list("b") == ["b/1.txt", "b/2.txt"]
    assert location.read("a.txt") == b"uno"
    assert location.read("b/1.txt") == b"three"
    assert location.exists("b/1.txt")
    assert not location.exists("b")
    location.delete("b/1.txt")
    location.delete("b/1.txt")
    assert not location.exists("b/1.txt")
    with pytest.raises(FileNotFoundError, match=r"b/1\.txt"):
        location.read("b/1.txt")
    with pytest.raises(FileNotFoundError, match=r"b/1\.txt"):
        location.open("b/1.txt")


def test_a_child_is_a_location_below(location: StorageLocation):
    child = location.child("runs").child("one")
    assert child == open_location(f"{location.url}/runs/one")
    child.write("a.txt", b"1")
    assert child.list() == ["a.txt"]
    assert location.list() == ["runs/one/a.txt"]
    assert child.url_of("a.txt") == location.url_of("runs/one/a.txt")


def test_reader_seeks(location: StorageLocation, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3, "READ_AHEAD_BYTES", (1000, 4000))
    data = random.Random(0).randbytes(50_000)
    location.write("x.bin", data)
    with location.open("x.bin") as file:
        assert file.read(10) == data[:10]
        file.seek(49_990)
        assert file.read(100) == data[-10:]
        assert file.read(1) == b""
        file.seek(-20, io.SEEK_END)
        assert file.read(5) == data[-20:-15]
        for at in random.Random(1).choices(range(50_000), k=20):
            file.seek(at)
            assert file.tell() == at
            assert file.read(3000) == data[at : at + 3000]
        file.seek(0)
        assert file.read() == data


def test_tar_is_read_by_its_full_address(location: StorageLocation):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a", "b"):
            info = tarfile.TarInfo(name)
            info.size = 5000
            tar.addfile(info, io.BytesIO(name.encode() * 5000))
    location.write("x.tar", buffer.getvalue())
    parent, name = split_url(location.url_of("x.tar"))
    with parent.open(name) as file, tarfile.open(fileobj=file) as tar:
        assert tar.getnames() == ["a", "b"]
        assert tar.extractfile("b").read() == b"b" * 5000


def test_reading_on_takes_few_requests(bucket: str, monkeypatch: pytest.MonkeyPatch):
    """And a jump brings little, so that random access to samples does not load whole shards."""
    asked: list[int] = []
    read_range = Bucket.read_range

    def counting(self: Bucket, path: str, start: int, stop: int, etag: str) -> bytes:
        asked.append(stop - start)
        return read_range(self, path, start, stop, etag)

    monkeypatch.setattr(Bucket, "read_range", counting)
    location = open_location(bucket)
    location.write("x.bin", bytes(6 << 20))
    with location.open("x.bin") as file:
        while file.read(10_240):
            pass
        assert len(asked) <= 6
        asked.clear()
        file.seek(1 << 20)
        file.read(60_000)
        assert asked == [256 << 10]


def test_locations_pickle(location: StorageLocation):
    location.write("a", b"1")
    assert pickle.loads(pickle.dumps(location)).read("a") == b"1"


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert open_location("data") == Folder(tmp_path / "data")
    assert open_location("~/data") == Folder(Path("/home/me/data"))
    assert open_location(Folder(tmp_path)) == Folder(tmp_path)
    assert open_location("s3://bucket/a/b/") == Bucket("bucket", "a/b")
    assert open_location("s3://bucket").child("a") == Bucket("bucket", "a")
    assert open_location("s3://bucket").url == "s3://bucket"
    assert open_location("s3://bucket/a").url_of("b/c") == "s3://bucket/a/b/c"
    assert split_url("s3://bucket/a/b.tar") == (Bucket("bucket", "a"), "b.tar")
    assert split_url("s3://bucket/b.tar") == (Bucket("bucket"), "b.tar")
    assert split_url("b.tar") == (Folder(tmp_path), "b.tar")
    assert split_url("/b.tar") == (Folder(Path("/")), "b.tar")


def test_missing_bucket_is_an_error_that_names_it(bucket: str):
    location = open_location("s3://no-such-bucket/prefix")
    with pytest.raises(OSError, match=r"s3://no-such-bucket/prefix/a.*NoSuchBucket"):
        location.read("a")
    with pytest.raises(OSError, match=r"s3://no-such-bucket/prefix.*NoSuchBucket"):
        location.list()
    with pytest.raises(OSError, match=r"s3://no-such-bucket/prefix/a.*NoSuchBucket"):
        location.write("a", b"")


def test_server_that_is_away_is_an_error_that_names_the_object(
    bucket: str, monkeypatch: pytest.MonkeyPatch
):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(s3, "REQUEST_ATTEMPTS", 3)
    s3._client.cache_clear()
    with pytest.raises(OSError, match=rf"s3://faces/a: Could not connect .*{port}"):
        open_location(bucket).read("a")


def test_our_unfinished_uploads_below_the_prefix_are_aborted(bucket: str):
    client = s3._client(os.getpid())

    def unfinished() -> list[str]:
        uploads = client.list_multipart_uploads(Bucket="faces").get("Uploads", [])
        return [upload["Key"] for upload in uploads]

    keys = ["mine/a", "mine/b/c", "mine2/d", "other"]
    ours = re.compile("a|other")
    for key in keys:
        client.create_multipart_upload(Bucket="faces", Key=key)
    assert unfinished() == keys
    open_location(f"{bucket}/mine").write("whole", b"1")
    open_location(f"{bucket}/mine").abort_uploads(ours)
    assert unfinished() == ["mine/b/c", "mine2/d", "other"]
    assert open_location(f"{bucket}/mine").list() == ["whole"]
    open_location(bucket).abort_uploads(ours)
    assert unfinished() == ["mine/b/c", "mine2/d"]


def test_folder_needs_no_boto3_and_sharding_no_torch():
    """Every module of the package, imported in a process of its own."""
    code = """
import pkgutil, sys, sharding
for module in pkgutil.walk_packages(sharding.__path__, "sharding."):
    if module.name != "sharding.__main__":
        __import__(module.name)
from sharding.storage.location import open_location
open_location("x").list()
print([name for name in ("torch", "boto3", "webdataset", "ray") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("url", ["s3://faces", "s3://faces/"])
def test_a_file_in_a_bucket_has_a_key(url: str):
    with pytest.raises(ValueError, match="names no file, expected s3://bucket/key"):
        split_url(url)


def test_an_empty_text_is_not_the_working_directory():
    with pytest.raises(
        ValueError, match=r"empty text is no storage location: the working dir.* \."
    ):
        open_location("")


def test_a_file_that_would_fill_memory_is_not_read(
    location: StorageLocation, monkeypatch: pytest.MonkeyPatch
):
    location.write("few.bin", bytes(10))
    location.write("many.bin", bytes(11))
    monkeypatch.setattr(storage, "MAX_READ_BYTES", 10)
    assert len(location.read("few.bin")) == 10
    with pytest.raises(OSError, match=r"over 10 bytes: 11.*many\.bin"):
        location.read("many.bin")


def test_a_path_that_leads_out_of_a_folder_is_refused(tmp_path: Path):
    """An object's name in a bucket may hold any, and what is made of it goes to a folder."""
    folder = Folder(tmp_path / "out")
    for path in ("../x", "a/../../x", "/x"):
        with pytest.raises(ValueError, match="must be a path within"):
            folder.write(path, b"")
        with pytest.raises(ValueError, match="must be a path within"):
            folder.read(path)
    assert not list(tmp_path.iterdir())


def test_an_endpoint_s_password_is_in_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3, "REQUEST_ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:planted@127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    s3._client.cache_clear()
    with pytest.raises(OSError, match="s3://faces/x") as caught:
        Bucket("faces").read("x")
    s3._client.cache_clear()
    assert "planted" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
