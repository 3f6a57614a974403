"""What a pickle would import and call, and how deeply its tuples are nested, told from its bytes: none of it is run.

``torch.load`` with ``weights_only=True`` runs nothing that it does not know. It knows more than weights need, some of
which takes memory without end, and hashing tuples in tuples in tuples ends the process: this is looked at before.
"""

import pickletools
from collections import deque
from dataclasses import dataclass
from io import BytesIO

_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")


@dataclass(frozen=True)
class Scan:
    """The functions and classes that a pickle names, as ``module.name``, and how many tuples lie in one another."""

    names: frozenset[str]
    deepest: int


def scan_pickle(content: bytes | BytesIO) -> Scan:
    """Read the operations of a pickle and run none. Raises ValueError or IndexError where it is none, or is cut off.

    A stream is left behind the pickle.
    """
    names: set[str] = set()
    deepest, texts = 0, deque[str](maxlen=2)
    stack: list[int] = []  # of what a pickle machine would have on its own, how many tuples lie in one another
    marks: list[int] = []
    memo: dict[int, int] = {}
    for operation, argument, _ in pickletools.genops(content):
        kind = operation.name
        if kind in ("GLOBAL", "INST"):
            names.add(str(argument).replace(" ", "."))
        elif kind == "STACK_GLOBAL":
            names.add(".".join(texts))
        elif isinstance(argument, str):
            texts.append(argument)
        if kind == "MARK":
            marks.append(len(stack))
            continue
        if kind in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
            continue
        inner = _pop(stack, marks, operation)
        depth = 0
        if kind in ("GET", "BINGET", "LONG_BINGET"):
            depth = memo.get(int(argument or 0), 0)
        elif kind == "DUP":
            depth = max(inner)
        elif kind in _TUPLES:
            depth = 1 + max(inner, default=0)
        deepest = max(deepest, depth)
        stack += [depth] * len(operation.stack_after)
    return Scan(frozenset(names), deepest)


def _pop(stack: list[int], marks: list[int], operation: pickletools.OpcodeInfo) -> list[int]:
    """Take from the stack what an operation takes."""
    before = operation.stack_before
    start = len(stack) - len(before)
    if pickletools.markobject in before:
        start = marks.pop() - before.index(pickletools.markobject)
    if start < 0:
        raise IndexError("a pickle takes more than there is")
    taken = stack[start:]
    del stack[start:]
    return taken
