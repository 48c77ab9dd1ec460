"""Reads the scheduled HLO of a compiled step: its instructions and where they come from."""

import dataclasses
import functools
import math
import re

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8}
_BYTES |= {"s64": 8, "u64": 8, "c64": 8, "f8e4m3fn": 1, "f8e5m2": 1, "f8e4m3": 1, "s4": 1, "u4": 1}
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?")
_LINE = re.compile(r"^\s+(?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%(\S+) \(.*\{$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name, opcode: as in the HLO.
      shape: of the result, with layout, e.g. "bf16[128,56,56,256]{3,0,2,1}".
      operands: names of instructions.
      rest: all that follows the operands: attributes, metadata, backend_config; of constants and
        parameters the value or number too.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    rest: str

    @property
    def op_name(self) -> str:
        """JAX's path of the operation, e.g. "jit(train_step)/jvp(ResNet)/layer1.0/conv1/..."."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""

    @property
    def cycles(self) -> int:
        """The TPU compiler's estimate; 0 where it gives none."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        return int(found[1]) if found else 0

    @property
    def called(self) -> tuple[str, ...]:
        """Computations that it runs."""
        one = re.findall(r"(?:calls|body|to_apply)=%([\w.\-]+)", self.rest)
        return tuple(one)


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program: {computation: {name: instruction}} in the order of the schedule."""

    computations: dict[str, dict[str, Instruction]]
    entry: str
    header: str
    frames: dict[int, str]

    def main(self) -> list[tuple[Instruction, int]]:
        """The instructions that run, and how often in a step: of the entry, its calls and loops."""
        return self._running(self.entry, 1)

    def _running(self, computation: str, times: int) -> list[tuple[Instruction, int]]:
        running = []
        for instruction in self.computations[computation].values():
            if instruction.opcode in ("while", "call"):
                turns = self.trips(instruction) if instruction.opcode == "while" else 1
                for body in instruction.called:
                    running += self._running(body, times * turns)
            else:
                running.append((instruction, times))
        return running

    def trips(self, loop: Instruction) -> int:
        """How often a loop runs: what XLA knows, or what its condition compares with; else 1."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
        if known:
            return int(known[1])
        condition = re.search(r"condition=%([\w.\-]+)", loop.rest)
        limits = [
            int(inner.rest.partition(")")[0])
            for instruction in self.computations[condition[1]].values()
            for inner in self.inside(instruction)
            if inner.opcode == "constant" and inner.shape.startswith("s32[]")
        ]
        return limits[0] if len(limits) == 1 and limits[0] > 0 else 1

    def inside(self, instruction: Instruction) -> list[Instruction]:
        """The instruction, or all of the fusion that it stands for."""
        found = [instruction]
        for name in instruction.called if instruction.opcode != "while" else ():
            for inner in self.computations.get(name, {}).values():
                found += self.inside(inner)
        return found

    @functools.cached_property
    def shapes(self) -> dict[str, str]:
        """{instruction: shape}; names are unique within a module."""
        return {
            name: instruction.shape
            for computation in self.computations.values()
            for name, instruction in computation.items()
        }

    def source(self, instruction: Instruction) -> str:
        """FILE:LINE that asked for the instruction; "" where unknown."""
        frame = re.search(r"stack_frame_id=(\d+)", instruction.rest)
        if frame:
            return self.frames.get(int(frame[1]), "")
        old = re.search(r'source_file="([^"]*)" source_line=(\d+)', instruction.rest)
        return f"{old[1]}:{old[2]}" if old else ""

    @property
    def aliased_outputs(self) -> int:
        """Outputs that reuse the memory of a donated input."""
        return len(re.findall(r"(?:may|must)-alias", self.header))


def read_hlo(text: str) -> Module:
    """Reads `compiled.as_text()`."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.endswith("{") and (found := _COMPUTATION.match(line)):
            current = computations.setdefault(found[1], {})
            entry = found[1] if line.startswith("ENTRY") else entry
        elif current is not None and (found := _LINE.match(line)):
            name, shape, opcode, rest = found.groups()
            inputs, _, attributes = rest.partition("), ") if "), " in rest else (rest, "", "")
            operands = tuple(re.findall(r"%([\w.\-]+)", inputs))
            rest = rest if opcode in ("constant", "parameter") else attributes
            current[name] = Instruction(name, opcode, shape, operands, rest)
    return Module(computations, entry, text.partition("\n")[0], _frames(text))


def _frames(text: str) -> dict[int, str]:
    """{frame: FILE:LINE} from the tables before the first computation."""
    tables: dict[str, dict[int, str]] = {}
    current = None
    for line in text[: text.find("\n}\n")].splitlines():
        if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            current = tables.setdefault(line, {})
        elif current is not None and (found := re.match(r"(\d+) (.*)", line)):
            current[int(found[1])] = found[2]
    files = {number: name.strip('"') for number, name in tables.get("FileNames", {}).items()}

    def place(location: int) -> str:
        fields = dict(re.findall(r"(\w+)=(\d+)", tables["FileLocations"][location]))
        line = fields.get("line") or fields.get("start_line")
        return f"{files[int(fields['file_name_id'])]}:{line}"

    frames = {}
    for number, frame in tables.get("StackFrames", {}).items():
        location = re.search(r"file_location_id=(\d+)", frame)
        frames[number] = place(int(location[1])) if location else ""
    return frames


def shape_bytes(shape: str, *, only_hbm: bool = True) -> int:
    """Bytes of an array or a tuple of arrays, without padding.

    Args:
      shape: as in the HLO.
      only_hbm: leave out what lies in scratch memory, "S(1)" or another space in its layout.
    """
    return sum(
        _BYTES.get(dtype, 4) * math.prod(int(side) for side in sides.split(",") if side)
        for dtype, sides, layout in _ARRAY.findall(shape)
        if not (only_hbm and "S(" in layout)
    )


def arrays_of(shape: str) -> list[str]:
    """The shapes of the arrays in a tuple, however nested, in order."""
    return [found[0] for found in _ARRAY.finditer(shape)]


def sides_of(shape: str) -> list[int]:
    """Sides of the first array of a shape."""
    found = _ARRAY.search(shape)
    return [int(side) for side in found[2].split(",") if side] if found else []


def plain_shape(shape: str) -> str:
    """Without tiles and memory spaces: "bf16[128,56,56,256]{3,0,2,1}"."""
    return re.sub(r":[^}]*\}", "}", re.sub(r"/\*[^*]*\*/", "", shape))
