"""One run per working directory, whoever else died, sleeps or starts at the same moment."""

import dataclasses
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from imagenet_jax.errors import FAILED, UserError
from imagenet_jax.hosts import holder, lock
from imagenet_jax.hosts.lock import NAME, Lock, workdir_lock


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "STALE", 0.8)


@pytest.fixture
def ended():
    """The number of a process that was, and another that is over and not yet buried."""
    process = subprocess.Popen(["true"])
    zombie = subprocess.Popen(["true"])
    process.wait()
    while holder._started(zombie.pid):
        time.sleep(0.01)
    yield process.pid, zombie.pid
    zombie.wait()


def leave_lock(folder, **changes):
    """A lock file as another process, boot or machine would have left it."""
    other = dataclasses.replace(holder.own_holder(), command="launch.py --seed=1", **changes)
    (folder / NAME).write_bytes(holder.to_bytes(other))
    return other


def is_free(folder):
    """Whether the lock can be had; it is given back, and nothing is left."""
    with workdir_lock(folder):
        own = holder.from_bytes((folder / NAME).read_bytes())
        assert own.pid == os.getpid()
    return not list(folder.iterdir())


def test_a_second_run_is_refused_with_who_holds_the_folder(tmp_path):
    with workdir_lock(tmp_path):
        own = holder.from_bytes((tmp_path / NAME).read_bytes())
        with pytest.raises(UserError) as error, workdir_lock(tmp_path):
            pass
        told = str(error.value)
        for fact in (str(tmp_path), f"process {os.getpid()} on {own.host}", own.since, own.command):
            assert fact in told
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
    with pytest.raises(ZeroDivisionError), workdir_lock(tmp_path):
        _ = 1 / 0
    assert is_free(tmp_path)


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path, ended):
    lock.STALE = 1000.0
    gone, zombie = ended
    leave_lock(tmp_path, pid=gone)
    assert is_free(tmp_path)
    leave_lock(tmp_path, pid=zombie)
    assert is_free(tmp_path)
    leave_lock(tmp_path, started="12")  # its number is another process's now
    assert is_free(tmp_path)
    leave_lock(tmp_path, machine="m", boot="one before")
    with pytest.MonkeyPatch.context() as patch:
        own = dataclasses.replace(holder.own_holder(), machine="m")
        patch.setattr(holder, "own_holder", lambda: own)
        assert is_free(tmp_path)


def test_another_machine_is_refused_if_it_is_heard_of_and_replaced_if_it_is_silent(
    tmp_path, capsys
):
    left = leave_lock(tmp_path, host="elsewhere", machine="other")
    beats = threading.Timer(0.2, lambda: os.utime(tmp_path / NAME))
    beats.start()
    with pytest.raises(UserError, match="on elsewhere since"), workdir_lock(tmp_path):
        pass
    assert "waiting up to 1 s to see whether it lives" in capsys.readouterr().out
    begin = time.monotonic()
    assert is_free(tmp_path)
    assert 0.3 < time.monotonic() - begin < 10
    assert f"took over {tmp_path / NAME} from {left}" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b'{"host": "elsew', b"[1]"])
def test_a_lock_cut_short_by_a_power_cut_is_taken_over(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    os.utime(tmp_path / NAME, (time.time() - 100,) * 2)
    assert is_free(tmp_path)


def leave_claim(folder, name):
    """What a contender left that died while it took the place of the dead holder of `name`."""
    content = (folder / name).read_bytes()
    claim = f"{name}.{lock.hashlib.sha256(content).hexdigest()[:16]}"
    (folder / claim).write_bytes(content + b" ")
    return claim


@pytest.mark.parametrize("dead", range(4))
def test_of_many_that_start_at_once_one_gets_it(tmp_path, ended, dead):
    """Also where contenders died while they took a dead one's place, and a dead one's of those."""

    def take(_):
        try:
            return Lock(tmp_path / NAME)
        except UserError:
            return None

    for _ in range(20):  # not every time does one come between what another does
        if dead:
            leave_lock(tmp_path, pid=ended[0])
        name = NAME
        for _ in range(1, dead):
            name = leave_claim(tmp_path, name)
        with ThreadPoolExecutor(8) as pool:
            got = list(filter(None, pool.map(take, range(8))))
        for one in got:
            one.release()
        assert len(got) == 1
        assert not list(tmp_path.iterdir())


def test_a_lock_is_kept_fresh_and_its_loss_ends_the_process(tmp_path, monkeypatch, capsys):
    ends = []
    monkeypatch.setattr(lock, "end_job", lambda reason, status: ends.append(status))
    with workdir_lock(tmp_path):
        os.utime(tmp_path / NAME, (0, 0))
        (tmp_path / "unrelated").touch()
        deadline = time.monotonic() + 10
        while (tmp_path / NAME).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / NAME).stat().st_mtime > time.time() - 20
        leave_lock(tmp_path, host="elsewhere")
        while not ends and time.monotonic() < deadline:
            time.sleep(0.02)
    assert FAILED in ends
    assert "was taken over by process" in capsys.readouterr().err
    assert (tmp_path / NAME).exists()  # it is the other's


def test_file_systems_without_links_will_do(tmp_path, monkeypatch):
    def link(*unused):
        raise PermissionError(lock.errno.EPERM, "no links here")

    monkeypatch.setattr(lock.os, "link", link)
    with workdir_lock(tmp_path), pytest.raises(UserError), workdir_lock(tmp_path):
        pass
    assert is_free(tmp_path)
