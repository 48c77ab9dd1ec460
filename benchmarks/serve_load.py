"""How many photos a second `launch.py serve` answers, with and without batches.

    python benchmarks/serve_load.py PHOTOS --model=efficientnet_lite0 [--seconds=10]

PHOTOS is a folder of images. Clients on this machine send them one after the other, each by its own
connection. A server that gathers batches and one that looks at each image alone are measured in
turn, with 1, 8 and 64 clients; clients and server share the processor. Flags that are not known
here go to `launch.py serve`.
"""

import argparse
import http.client
import itertools
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PORT, CLIENTS = 8321, (1, 8, 64)


def wait_until_ready(process: subprocess.Popen) -> None:
    for _ in range(3000):
        if process.poll() is not None:
            raise SystemExit("the server ended")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server is not ready after five minutes")


def load(clients: int, seconds: float, photos: list[bytes]) -> tuple[float, list[float], int]:
    """Photos a second, the seconds of each answer, and how many were refused."""
    end, lock = time.perf_counter() + seconds, threading.Lock()
    times: list[float] = []
    refused = 0

    def client(number: int) -> None:
        nonlocal refused
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        for photo in itertools.cycle(
            photos[number % len(photos) :] + photos[: number % len(photos)]
        ):
            start = time.perf_counter()
            if start >= end:
                return
            connection.request("POST", "/predict", photo)
            answer = connection.getresponse()
            answer.read()
            with lock:
                if answer.status == 200:
                    times.append(time.perf_counter() - start)
                else:
                    refused += 1

    start = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(times) / (time.perf_counter() - start), sorted(times), refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    args, flags = parser.parse_known_args()
    files = sorted(path for path in args.photos.rglob("*") if path.is_file())[:64]
    photos = [path.read_bytes() for path in files]
    rates: dict[tuple[str, int], list[float]] = {}
    for name, batch in (("batches", 32), ("one by one", 1)) * 2:
        command = [sys.executable, "launch.py", "serve", f"--port={PORT}", f"--max_batch={batch}"]
        process = subprocess.Popen([*command, *flags], cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(process)
            load(8, 2, photos)  # warms caches
            for clients in CLIENTS:
                rate, times, refused = load(clients, args.seconds, photos)
                rates.setdefault((name, clients), []).append(rate)
                p50, p99 = times[len(times) // 2], times[int(0.99 * len(times))]
                print(
                    f"{name:10} {clients:3} clients {rate:8.1f} photos/s   p50 {1000 * p50:7.1f} ms"
                    f"   p99 {1000 * p99:7.1f} ms   {refused} refused",
                    flush=True,
                )
        finally:
            process.terminate()
            process.wait()
    for clients in CLIENTS:
        both = [statistics.median(rates[name, clients]) for name in ("batches", "one by one")]
        print(f"{clients:3} clients: {both[0] / both[1]:.2f} times as many in batches")


if __name__ == "__main__":
    main()
