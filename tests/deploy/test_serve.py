"""A real server on loopback: what it answers, what it refuses, how it ends."""

import base64
import http.client
import io
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

uvicorn = pytest.importorskip("uvicorn", reason="an extra")

from imagenet_jax import Predictor  # noqa: E402
from imagenet_jax.cli import main  # noqa: E402
from imagenet_jax.deploy.server import limits as limits_file  # noqa: E402
from imagenet_jax.deploy.server.app import Server  # noqa: E402
from imagenet_jax.deploy.server.limits import Limits  # noqa: E402
from imagenet_jax.deploy.server.serve import serve  # noqa: E402
from imagenet_jax.errors import ExportError  # noqa: E402

ROOT = Path(__file__).parents[2]


def photo(seed=0, shape=(8, 8, 3), kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def ask(port, method, path, body=None, headers=None):
    """Status, headers and JSON or bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
        kind = answer.headers.get("content-type", "")
        return answer.status, answer.headers, json.loads(data) if "json" in kind else data
    finally:
        connection.close()


def form(*files):
    """A multipart body of (name, bytes)."""
    head = '--edge\r\nContent-Disposition: form-data; name="files"; filename="{}"\r\n\r\n'
    parts = [head.format(name).encode() + data for name, data in files]
    body = b"\r\n".join([*parts, b"--edge--\r\n"])
    return body, {"content-type": "multipart/form-data; boundary=edge"}


def wait_until_ready(port):
    for _ in range(600):
        try:
            if ask(port, "GET", "/ready")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("not ready")


@pytest.fixture
def serving(finished_run, one_block):
    """serving(limits) -> port, predictor."""
    running = []

    def start(**limits):
        config_fields = {"data.eval_crop": "resize"}
        predictor = Predictor.from_run(finished_run, fields=config_fields)
        server = Server(predictor, Limits(**{"batch": 4, **limits}))
        made = uvicorn.Server(uvicorn.Config(server.app(), port=0, log_level="critical"))
        listening = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=made.run, args=([listening],), daemon=True)
        thread.start()
        running.append((made, thread))
        port = listening.getsockname()[1]
        wait_until_ready(port)
        return port, server

    yield start
    for made, thread in running:
        made.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_answers_are_those_of_predict(serving, finished_run):
    """Of a body, of a form in its order, of many clients at once, whatever batch they come into."""
    port, server = serving()
    photos = [photo(seed, (9 + seed, 8, 3), "JPEG" if seed % 2 else "PNG") for seed in range(12)]
    expected = server.predictor(photos, top=3)

    def same(told, wanted):
        for one, other in zip(told["classes"], wanted["classes"], strict=True):
            assert one["class_name"] == other["class_name"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)

    status, _, told = ask(port, "POST", "/predict?top=3", photos[0])
    assert status == 200 and told["task"] == "classification" and told["errors"] == []
    assert told["model"] == server.predictor.name and told["image_size"] == 8
    same(told["predictions"][0], expected[0])
    body, headers = form(*((f"{k}.png", data) for k, data in enumerate(photos[:3])))
    status, _, told = ask(port, "POST", "/predict?top=3", body, headers)
    assert [one["path"] for one in told["predictions"]] == ["0.png", "1.png", "2.png"]
    for one, wanted in zip(told["predictions"], expected, strict=False):
        same(one, wanted)
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda data: ask(port, "POST", "/predict?top=3", data), photos))
    for (status, _, told), wanted in zip(answers, expected, strict=True):
        assert status == 200
        same(told["predictions"][0], wanted)
    text = ask(port, "GET", "/metrics")[2].decode()
    assert "imagenet_jax_images_total 16.0" in text and "images_in_flight 0.0" in text
    batches = float(re.search(r"batch_size_count ([\d.]+)", text)[1])
    assert 4 <= batches < 16  # at most four in a batch, and some were together


def test_what_cannot_be_is_refused(serving):
    port, _ = serving(body=5000, images=2)
    good = photo()
    assert ask(port, "POST", "/predict", b"")[0] == 400
    status, _, told = ask(port, "POST", "/predict", b"no photo")
    assert status == 400 and "cannot be read: no image" in told["error"]
    status, _, told = ask(port, "POST", "/predict", *form(("a.png", good), ("b.png", good[:40])))
    assert status == 200 and len(told["predictions"]) == 1
    assert told["errors"][0]["path"] == "b.png"
    long = ("9" * 400, "0000000010000", "000000001" + "0" * 5000)
    for top in ("0", "-1", "x", "1001", "%D9%A1", *long):
        assert ask(port, "POST", f"/predict?top={top}", good)[0] == 400, top
    assert ask(port, "POST", f"/explain?class={'1' * 5000}", good)[0] == 400
    status, _, told = ask(port, "POST", "/predict", bytes(5001))
    assert status == 413 and "more than 5000 bytes" in told["error"]
    chunks = ask(port, "POST", "/predict", iter([bytes(1000)] * 6))  # in chunks
    assert chunks[0] == 413
    assert ask(port, "POST", "/predict", *form(*[("a.png", good)] * 3))[0] == 413
    assert ask(port, "POST", "/predict", b"--edge", form()[1])[0] == 400
    assert ask(port, "POST", "/predict", good, {"content-type": "multipart/form-data"})[0] == 400
    large = photo(shape=(3000, 20, 3))[:200]  # its head promises pixels that do not come
    assert ask(port, "POST", "/predict", large)[0] == 400
    status, headers, _ = ask(port, "GET", "/predict")
    assert (status, headers["allow"]) == (405, "POST")
    assert ask(port, "GET", "/../../etc/passwd")[0] == 404
    assert ask(port, "POST", "/predict", good)[0] == 200


def test_a_photo_of_too_many_pixels_is_not_decoded(serving):
    """A PNG of a few kilobytes can promise gigabytes."""
    port, _ = serving(pixels=10_000)
    status, _, told = ask(port, "POST", "/predict", photo(shape=(101, 100, 3)))
    assert status == 400 and "pixels" in told["error"]


def test_a_full_queue_and_slow_requests_are_told_so(serving):
    port, server = serving(queue=3, seconds=1.0)
    too_many = form(*[("a.png", photo())] * 4)
    assert ask(port, "POST", "/predict", *too_many)[0] == 413  # for which there is never room
    look, held = server._batcher._look, threading.Event()
    server._batcher._look = lambda *given: held.wait(20) and look(*given)
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(ask, port, "POST", "/predict", photo(k)) for k in range(8)]
        found = [answer.result() for answer in answers]
        held.set()
    statuses = [status for status, _, _ in found]
    assert statuses.count(503) == 3 and statuses.count(429) == 5
    assert all(headers["retry-after"] for status, headers, _ in found if status == 429)
    time.sleep(0.3)
    assert ask(port, "POST", "/predict", photo())[0] == 200  # nothing of them is left
    with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab")
        assert b" 408 " in slow.recv(1000)


def test_a_server_whose_model_cannot_be_compiled_ends(finished_run, monkeypatch, one_block):
    def fails(self, images):
        raise RuntimeError("no memory\nmore of it")

    monkeypatch.setattr(Predictor, "shown", fails)
    predictor = Predictor.from_run(finished_run, fields={"data.eval_crop": "resize"})
    with pytest.raises(ExportError, match=r"for --max_batch=4 images: RuntimeError: no memory$"):
        serve(predictor, Limits(batch=4), "127.0.0.1", 0)


def test_an_error_of_the_model_is_one_request_long(serving):
    port, server = serving()
    look = server._batcher._look

    def wrong(*given):
        raise RuntimeError("secret")

    server._batcher._look = wrong
    status, _, told = ask(port, "POST", "/predict", photo())
    assert status == 500 and "secret" not in json.dumps(told)
    server._batcher._look = look
    assert ask(port, "POST", "/predict", photo())[0] == 200


def test_why_a_photo_was_answered_so(serving):
    """As `Predictor.explain`, with a picture of the photo's own shape."""
    port, server = serving()
    shape = (12, 20, 3)
    status, _, told = ask(port, "POST", "/explain?method=occlusion&class=3", photo(1, shape))
    assert status == 200 and told["target"]["label"] == 3 and set(told["methods"]) == {"occlusion"}
    picture = Image.open(io.BytesIO(base64.b64decode(told["picture"])))
    assert picture.size == (20, 12)
    (expected,) = server.predictor.explain([photo(1, shape)], ["occlusion"], of_class=3)
    assert told["score"] == pytest.approx(expected.score, abs=1e-4)
    for query in ("method=magic", "class=zebra", "box=2", "box=x"):
        assert ask(port, "POST", f"/explain?{query}", photo(1, shape))[0] == 400, query
    assert ask(port, "POST", "/explain", b"no photo")[0] == 400
    assert ask(port, "POST", "/explain", *form(("a", photo()), ("b", photo())))[0] == 413


def test_the_page_and_the_description(serving):
    port, _ = serving()
    status, headers, page = ask(port, "GET", "/")
    assert status == 200 and b"Drop photos here" in page
    assert "default-src 'none'" in headers["content-security-policy"]
    outside = re.findall(rb"(?:src|href)=.(?!data:)[^\"]*|https?://[^\s\"']+", page)
    assert not outside
    told = ask(port, "GET", "/openapi.json")[2]
    assert told["openapi"].startswith("3.1") and "post" in told["paths"]["/predict"]
    assert ask(port, "GET", "/health")[2] == {"status": "ok"}
    assert ask(port, "GET", "/ready")[2]["ready"] is True


def test_what_is_missing_is_said_early(finished_run, monkeypatch, capsys):
    monkeypatch.setitem(limits_file.PACKAGES, "no_such_module", "no-such-package")
    assert main(["serve", f"--workdir={finished_run}"]) == 1
    assert "serve needs packages: pip install no-such-package" in capsys.readouterr().err


@pytest.fixture(scope="module")
def lenet_run(tmp_path_factory):
    """A run of a network that another process makes, too."""
    workdir = tmp_path_factory.mktemp("lenet") / "run"
    fields = {"model.name": "lenet", "data.image_size": 32, "duration": "1 steps", "batch_size": 8}
    fields |= {"data.fake_train_examples": 8, "data.fake_eval_examples": 8, "eval.batch_size": 8}
    fields |= {"model.bn_group_size": 0, "data.fake_classes": 10, "data.eval_crop": "resize"}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    assert main(["train", "--config=fake_data", f"--workdir={workdir}", *flags]) == 0
    return workdir


def started(run, port):
    command = [sys.executable, "launch.py", "serve", f"--workdir={run}", f"--port={port}"]
    with open(run.parent / "serve.log", "w") as log:
        how = {"cwd": ROOT, "stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([*command, "--max_batch=4"], **how)
    wait_until_ready(port)
    return process


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def resident(process):
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


@pytest.mark.slow
def test_requests_that_are_there_are_answered_after_sigterm(lenet_run):
    """And a server starts again at once where one was killed; an address is had once."""
    port = free_port()
    process = started(lenet_run, port)
    other = subprocess.run(
        [sys.executable, "launch.py", "serve", f"--workdir={lenet_run}", f"--port={port}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert other.returncode == 1 and "another program has it" in other.stderr
    body, headers = form(*[(f"{k}.jpg", photo(k, (900, 900, 3), "JPEG")) for k in range(20)])
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(ask, port, "POST", "/predict", body, headers)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        status, _, told = answer.result()
    assert status == 200 and len(told["predictions"]) == 20
    assert process.wait(60) == 0
    assert "20 images were answered" in (lenet_run.parent / "serve.log").read_text()
    process = started(lenet_run, port)
    process.kill()
    process.wait()
    process = started(lenet_run, port)
    process.terminate()
    assert process.wait(60) == 0


def malformed(random_source, good):
    """Bytes of a request that is wrong in one of many ways."""
    kind = random_source.randrange(8)
    noise = random_source.randbytes(random_source.randrange(400))
    cut = good[: random_source.randrange(len(good))]
    changed = bytearray(good)
    for _ in range(5):
        changed[random_source.randrange(len(good))] = random_source.randrange(256)
    body, length = random_source.choice([noise, cut, bytes(changed)]), None
    lines = ["POST /predict HTTP/1.1", "Host: a", "Connection: close"]
    if kind == 0:
        return noise + b"\r\n\r\n"
    if kind == 1:
        lines[0] = f"POST /predict?top={noise.hex()[:20]} HTTP/1.1"
    if kind == 2:
        edge = noise.hex()[:10]
        lines.append(f"Content-Type: multipart/form-data; boundary={edge}")
        body = f"--{edge}\r\nContent-Disposition: form-data; name=a; filename=b".encode() + body
    if kind == 3:
        lines.append("Content-Type: multipart/form-data; boundary=" + noise.hex()[:2])
    if kind == 4:
        length = len(body) + random_source.randrange(100)  # more than comes
    if kind == 5:
        length = random_source.choice(["-1", "abc", "1e9", "99999999999999999999"])
    if kind == 6:
        lines[0] = f"{noise.hex()[:8] or 'X'} /predict HTTP/1.1"
    if kind == 7:
        lines.append("Transfer-Encoding: chunked")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + noise
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.slow
def test_malformed_requests(lenet_run):
    """5,000 of them: no crash, no answer of 500, and memory is what it was."""
    port, source, good = free_port(), random.Random(0), photo(0, (64, 64, 3), "JPEG")
    process = started(lenet_run, port)
    try:
        statuses, memory = {}, []
        for number in range(5000):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                try:
                    client.sendall(malformed(source, good))
                    client.shutdown(socket.SHUT_WR)
                    status = client.recv(100)[9:12].decode("ascii", "replace")
                except ConnectionError:
                    status = "closed"
                statuses[status] = statuses.get(status, 0) + 1
            if number in (1000, 4999):
                memory.append(resident(process))
        assert ask(port, "POST", "/predict", good)[0] == 200 and process.poll() is None
        assert not any(status.startswith("5") for status in statuses), statuses
        assert statuses["400"] > 1000, statuses
        assert memory[1] < memory[0] + 60, memory
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert len((lenet_run.parent / "serve.log").read_text()) < 2000  # it does not fill a disk
