"""Requests to stop: where processes agree to, and what does not wait for that."""

import threading
import types

import pytest

from imagenet_jax.hosts import preemption
from imagenet_jax.hosts.preemption import StopRequested, StopRequests


class Job:
    """A coordinator and processes that are threads, in place of `coordination` and `jax`."""

    def __init__(self, count):
        self.count, self.values, self.changed = count, {}, threading.Condition()
        self.local, self.reactions = threading.local(), []

    def is_job(self):
        return True

    def process_count(self):
        return self.count

    def announce(self, key, value):
        for number, react in enumerate(self.reactions):
            threading.Thread(target=self.run, args=(number, react, value)).start()

    def run(self, number, call, *arguments):
        self.local.number = number
        return call(*arguments)

    def tell(self, key, value):
        with self.changed:
            self.values[key, self.local.number] = value
            self.changed.notify_all()

    def ask(self, key, process, timeout):
        with self.changed:
            self.changed.wait_for(lambda: (key, process) in self.values)
            return self.values[key, process]


@pytest.fixture
def job(monkeypatch):
    job = Job(3)
    monkeypatch.setattr(preemption, "coordination", job)
    errors = types.SimpleNamespace(JaxRuntimeError=RuntimeError)
    fake = types.SimpleNamespace(process_count=job.process_count, errors=errors)
    monkeypatch.setattr(preemption, "jax", fake)
    return job


def test_all_stop_at_the_first_place_that_none_has_passed(job):
    stops = [StopRequests() for _ in range(3)]
    job.reactions = [stop._agree for stop in stops]
    for stop, place in zip(stops, (5, 8, 2), strict=True):
        stop.at_once = False
        assert not any(stop.reached() for _ in range(place))
    stops[2].request()
    for stop, place in zip(stops, (5, 8, 2), strict=True):
        assert stop._requested.wait(10)
        assert [stop.reached() for _ in range(place, 10)] == [n >= 8 for n in range(place, 10)]


def test_a_process_that_waits_for_input_ends_the_job_after_a_while(job, monkeypatch):
    ends = []
    monkeypatch.setattr(preemption, "end_job", lambda reason, status: ends.append(status))
    stop = StopRequests()
    stop.check_wait(100)
    stop._requested.set()
    stop.check_wait(1)
    assert ends == []
    stop.check_wait(11)
    assert ends == [preemption.STOPPED]


def test_a_process_that_works_alone_leaves_its_wait_for_input():
    stop = StopRequests()
    stop.check_wait(100)
    stop.at_once = False
    stop.request()
    assert stop.reached()
    with pytest.raises(StopRequested):
        stop.check_wait(0)


def test_with_nothing_to_save_a_request_ends_the_process(monkeypatch, capsys):
    ends = []
    monkeypatch.setattr(preemption, "end_job", lambda reason, status: ends.append(status))
    StopRequests().request()
    assert ends == [preemption.STOPPED]
    assert "stopped, with nothing left to save" in capsys.readouterr().out
