import io
import time

from imagenet_jax import terminal
from imagenet_jax.terminal import counting, say, silence, working


class Terminal(io.StringIO):
    """80 columns, as far as \\r and line breaks go."""

    def isatty(self):
        return True

    def lines(self):
        """What a person sees in the end."""
        shown = []
        for line in self.getvalue().split("\n"):
            cells = [" "] * 80
            for part in line.split("\r"):
                cells[: len(part)] = part
            shown.append("".join(cells).rstrip())
        return shown


def begin(monkeypatch, stream):
    """In the test itself, as pytest sets stderr before it calls one."""
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(terminal, "_TICK", 0.01)
    monkeypatch.setattr(terminal, "_SHORT", 0.02)
    return stream


def test_a_terminal_shows_what_goes_on_and_keeps_how_long_it_took(monkeypatch):
    stderr = begin(monkeypatch, Terminal())
    with working("compiling") as show:
        time.sleep(0.05)
        show("compiling, the larger part of it")
        time.sleep(0.05)
        say("a fact")
        with working("within"):
            pass
    drawn = stderr.getvalue()
    assert "compiling  0 s" in drawn and "the larger part of it  0 s" in drawn
    assert stderr.lines() == ["a fact", "compiling: 0.1 s", ""] and "within" not in drawn
    with working("evaluating", stays=False):
        time.sleep(0.05)
    assert stderr.lines()[2:] == [""]


def test_a_file_gets_a_line_now_and_then(monkeypatch):
    stderr = begin(monkeypatch, io.StringIO())
    monkeypatch.setattr(terminal, "_FIRST_LINE", 0.1)
    with working("compiling"):
        assert not stderr.getvalue()
        time.sleep(0.2)
    assert stderr.getvalue().splitlines() == ["compiling: 0 s so far", "compiling: 0.2 s"]


def test_what_is_counted_is_shown_of_the_whole_with_the_time_left(monkeypatch):
    stderr = begin(monkeypatch, Terminal())
    with counting("writing", 1200) as done:
        time.sleep(0.05)
        done(1000)
        time.sleep(0.05)
        done(200)
    drawn = stderr.getvalue()
    assert "writing: 0 of 1,200 images  0 s" in drawn
    assert "writing: 1,000 of 1,200 images, 00:00 left  0 s" in drawn
    assert stderr.lines() == ["writing 1,200 images: 0.1 s", ""]


def test_other_processes_say_nothing_and_names_cannot_steer_a_terminal(monkeypatch):
    stderr = begin(monkeypatch, io.StringIO())
    say("a \x1b[31mred\x07 name")
    assert "\x1b" not in stderr.getvalue() and "red" in stderr.getvalue()
    monkeypatch.setattr(terminal, "_silent", False)
    silence()
    before = stderr.getvalue()
    with working("compiling"):
        say("a fact")
        time.sleep(0.05)
    assert stderr.getvalue() == before
