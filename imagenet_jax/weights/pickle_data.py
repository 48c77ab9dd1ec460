"""Reads a pickle as data: nothing that it names is looked up, and nothing in it is run.

Python's own unpickler calls what a pickle names, and sets attributes of what it finds. Here a
pickle is a list of instructions for a stack, of which the few that torch.save writes are known.
A name is a pair of texts, and what a pickle wants to call is asked of a table.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

from imagenet_jax.errors import WeightsError

# An instruction of a byte makes an object of 64; real pickles of a million tensors are smaller.
MOST_BYTES = 2**24


class Name(NamedTuple):
    """What a pickle says that it would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return shown(f"{self.module}.{self.name}")


class Unread:
    """In place of an object that is of no use here, such as the options of a training script."""


UNREAD = Unread()
Call = Callable[..., Any]


class _Mark:
    """Where a list of arguments begins on the stack."""


_MARK = _Mark()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_KEYS = (str, int, float, bool, Name, type(None))


def read_pickle(file: BinaryIO, calls: Mapping[Name, Call], find: Call) -> Any:
    """What the pickle at the file's position describes: dicts, lists, tuples, texts, numbers.

    Args:
      file: its read(n) must not take memory for bytes that are not there, as BytesIO's does not.
      calls: what stands for the functions that the pickle may call.
      find: gives what a persistent id stands for.

    Raises:
      WeightsError: for what the pickle wants to do beside, or if it is too large.
      ValueError, IndexError, KeyError, TypeError: for a damaged one.
    """
    machine, begin = _Machine(calls, find), file.tell()
    for opcode, argument, position in pickletools.genops(file):
        if position - begin > MOST_BYTES:
            raise WeightsError(f"what describes the tensors is longer than {MOST_BYTES} bytes")
        machine.do(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """A stack, and the objects that the pickle refers to again by their numbers."""

    def __init__(self, calls: Mapping[Name, Call], find: Call):
        self.calls, self.find = calls, find
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def do(self, code: str, argument: Any) -> None:
        """One instruction."""
        stack = self.stack
        if code in ("PROTO", "FRAME", "STOP"):
            return
        if code in _LITERALS:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _EMPTY:
            stack.append(_EMPTY[code]())
        elif code == "MARK":
            stack.append(_MARK)
        elif code in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif code == "TUPLE":
            stack.append(tuple(self._arguments()))
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._taken(int(code[-1]))))
        elif code == "GLOBAL":
            stack.append(Name(*argument.split(" ", 1)))
        elif code == "STACK_GLOBAL":
            stack.append(Name(*map(_text, self._taken(2))))
        elif code == "BINPERSID":
            stack[-1] = self.find(stack[-1])
        elif code in ("REDUCE", "NEWOBJ"):
            stack.append(self._call(*self._taken(2)))
        elif code == "BUILD":
            self._taken(1)  # attributes: of what is read none matters
            self._check_build(stack[-1])
        elif code in ("SETITEM", "SETITEMS"):
            self._set(self._taken(2 if code == "SETITEM" else 0))
        elif code in ("APPEND", "APPENDS", "ADDITEMS"):
            self._append(self._taken(1 if code == "APPEND" else 0), code == "ADDITEMS")
        else:
            raise WeightsError(f"it has the instruction {code}, which torch.save never writes")

    def _arguments(self) -> list[Any]:
        """What is on the stack above the last mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                taken = self.stack[place + 1 :]
                del self.stack[place:]
                return taken
        raise IndexError("no mark")

    def _taken(self, count: int) -> list[Any]:
        """So many from the top of the stack; 0: down to the mark."""
        if not count:
            return self._arguments()
        if len(self.stack) < count:
            raise IndexError("nothing is left on the stack")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise WeightsError(f"it wants to call {_kind(function)}; refused")
        if function not in self.calls:
            raise refused_call(function)
        return self.calls[function](*arguments)

    def _check_build(self, target: Any) -> None:
        if not (type(target) is dict or target is UNREAD):
            raise WeightsError(f"it wants to change the state of {_kind(target)}; refused")

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if target is UNREAD:
            return
        if type(target) is not dict:
            raise WeightsError(f"it wants to set an item of {_kind(target)}; refused")
        target.update(dict_of(zip(items[::2], items[1::2], strict=True)))

    def _append(self, items: list[Any], to_set: bool) -> None:
        target = self.stack[-1]
        if type(target) is set and to_set:
            return  # no set is read
        if type(target) is not list:
            raise WeightsError(f"it wants to append to {_kind(target)}; refused")
        target.extend(items)


def dict_of(pairs: Iterable[Any]) -> dict[Any, Any]:
    """A dict of pairs. Raises WeightsError for a key that is no text or number."""
    made = {}
    for key, value in pairs:
        if type(key) not in _KEYS:  # a tuple of tuples of ... is hashed for hours
            raise WeightsError(f"it has {_kind(key)} for a key")
        made[key] = value
    return made


def refused_call(name: Name) -> WeightsError:
    """The error of a file that wants to call something that is not known."""
    return WeightsError(
        f"it wants to call {name}, which a state_dict of tensors does not; refused. "
        "If you trust it, load it with torch and save model.state_dict()"
    )


def shown(text: str) -> str:
    """A text of a file for a message: short, and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{_kind(value)} for a name")
    return value


def _kind(value: Any) -> str:
    return str(value) if isinstance(value, Name) else f"a {type(value).__name__}"
