import errno
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from imagenet_jax.errors import WeightsError
from imagenet_jax.weights import download
from imagenet_jax.weights.download import cache_dir, fetch

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "imagenet_jax" / "weights"


@pytest.fixture
def server():
    """A server that breaks off after `limit` bytes and remembers what was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        limit, ranges, pause, length = len(CONTENT), [], 0, True

        def do_GET(self):
            start = 0
            asked = self.headers.get("Range")
            Handler.ranges.append(asked)
            if asked:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if asked else 200)
            if Handler.length:
                self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : start + 1000])
            time.sleep(Handler.pause)
            self.wfile.write(CONTENT[start : start + Handler.limit][1000:])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        Handler.url = f"http://127.0.0.1:{running.server_port}/weights.pth"
        yield Handler
        running.shutdown()


def test_a_file_is_fetched_once(server, cache):
    path = fetch(server.url, SHA256[:8])
    assert path == cache / "weights.pth" and path.read_bytes() == CONTENT
    assert fetch(server.url, SHA256) == path
    assert len(server.ranges) == 1
    assert [file.name for file in cache.iterdir()] == ["weights.pth"]


def test_a_broken_download_goes_on_where_it_stopped(server, cache):
    server.limit = 3_000_000
    with pytest.raises(WeightsError, match=r"broke off at 3000000 of 5120000 .* put it at "):
        fetch(server.url, SHA256)
    assert not (cache / "weights.pth").exists()
    server.limit = len(CONTENT)
    assert fetch(server.url, SHA256).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=3000000-"]


FETCH = """
import sys
sys.path.insert(0, sys.argv[1])
from imagenet_jax.weights.download import fetch
print(fetch(sys.argv[2], sys.argv[3]))
"""


@pytest.mark.parametrize("sha256", [SHA256, ""])
def test_one_of_several_processes_fetches_and_all_have_it(server, cache, sha256):
    server.pause = 2  # until all of them have started
    command = [sys.executable, "-c", FETCH, str(Path(__file__).parents[2]), server.url, sha256]
    # None of them imports JAX: they start together, in a moment.
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = [process.communicate(timeout=60)[0].strip() for process in started]
    assert told == [str(cache / "weights.pth")] * 4
    assert (cache / "weights.pth").read_bytes() == CONTENT
    assert server.ranges == [None]
    assert [file.name for file in cache.iterdir()] == ["weights.pth"]


def test_without_locks_each_process_has_a_file_of_its_own(server, cache, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(download.fcntl, "flock", no_locks)
    names, original = [], download._download
    monkeypatch.setattr(download, "_download", lambda *a: (names.append(a[1].name), original(*a)))
    assert fetch(server.url, SHA256).read_bytes() == CONTENT
    assert [file.name for file in cache.iterdir()] == ["weights.pth"]
    assert names == [f".weights.pth.{socket.gethostname()}.{os.getpid()}.partial"]


def test_without_a_checksum_the_length_counts(server, cache):
    server.limit = 3_000_000
    with pytest.raises(WeightsError, match="broke off at 3000000 of 5120000"):
        fetch(server.url, "")
    server.limit = len(CONTENT)
    assert fetch(server.url, "").read_bytes() == CONTENT
    assert server.ranges == [None, None]  # nothing was put together of two attempts
    (cache / "weights.pth").unlink()
    server.length = False
    with pytest.raises(WeightsError, match="does not say how long it is"):
        fetch(server.url, "")
    assert fetch(server.url, SHA256).read_bytes() == CONTENT


def test_another_checksum_is_refused(server, cache):
    with pytest.raises(WeightsError, match=f"has the sha256 {SHA256}, expected 00"):
        fetch(server.url, "00")
    assert not list(cache.iterdir())


def test_a_damaged_file_in_the_cache_is_found(server, cache):
    fetch(server.url, SHA256).write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="it was removed"):
        fetch(server.url, SHA256)
    assert fetch(server.url, SHA256).read_bytes() == CONTENT


def test_offline_the_message_says_what_to_put_where(cache):
    with pytest.raises(WeightsError) as error:
        fetch("http://127.0.0.1:9/weights.pth", SHA256)
    assert f"put it at {cache_dir() / 'weights.pth'}" in str(error.value)
    cache_dir().mkdir(parents=True, exist_ok=True)
    (cache_dir() / "weights.pth").write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:9/weights.pth", SHA256).read_bytes() == CONTENT


def test_a_package_that_is_installed_is_not_downloaded(cache, tmp_path, monkeypatch):
    package = tmp_path / "site" / "some_weights_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this is not run')")
    (package / "weights.pth").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(download.subprocess, "run", None)
    path = fetch("pypi:some-weights==1/some_weights_package/weights.pth", SHA256)
    assert path.read_bytes() == CONTENT


def test_a_package_that_does_not_exist(cache):
    with pytest.raises(WeightsError, match="pip install no-such-package-of-ours==9"):
        fetch("pypi:no-such-package-of-ours==9/nothing_at_all/weights.pth", "")
