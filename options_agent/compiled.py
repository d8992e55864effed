"""Compiled functions that a later process loads without importing the compiler: numba takes longer to import than a backtest to run.

`compiled` is numba's `njit` put off until a function is first called with arguments of a kind. The machine code is then kept on disk,
and where it lies there already llvmlite loads it and ctypes calls it. What a file is good for is in its name: a hash of the function,
of every function and constant it uses, of the kinds of its arguments, of the versions and the processor. (numba's own cache looks at the
function's own file only: it would go on calling what was compiled before another file changed.)

Kernels kept so take arrays, numbers and tuples of these, return numbers or tuples of numbers, and allocate nothing. Others, keyword
arguments, and all where the environment tells numba something (a variable `NUMBA_...`) are numba's own from start to end.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import sys
import threading
import types
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np

from options_agent.durable import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Compiled", "compiled", "intrinsic"]

FORMAT: Final = 2
#: What machine code may call: the C library's own, which every process has.
KNOWN_CALLS: Final = frozenset(
    (
        *("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "pow", "sqrt", "cbrt", "sin", "cos", "tan", "atan", "atan2", "tanh"),
        *("floor", "ceil", "trunc", "rint", "fabs", "fma", "fmod", "ldexp", "frexp", "memcpy", "memset", "memmove", "memcmp"),
    )
)
#: Kept of one function: kinds of arguments, and versions that were before.
KEPT: Final = 12
_NUMBERS: Final = {bool: "b1", int: "i8", float: "f8"}
_C_TYPES: Final[dict[str, Any]] = {"f8": ctypes.c_double, "i8": ctypes.c_int64, "b1": ctypes.c_uint8}

_LLVM_TYPES: Final = {"f8": "double", "i8": "i64", "b1": "i8"}

Kind = tuple[Any, ...]
Function = TypeVar("Function", bound="Callable[..., Any]")
_compiling = threading.RLock()


def compiled(*, keep: bool = True, **options: Any) -> Callable[[Function], Function]:
    """A decorator: compile at the first call, or load what was compiled before.

    Args:
        keep: whether the machine code is kept for processes without numba; False for what allocates.
        options: of `numba.njit`. Kept code runs without the interpreter's lock.
    """

    def decorate(function: Function) -> Function:
        return cast("Function", Compiled(function, options, keep=keep))

    return decorate


class intrinsic:  # noqa: N801 - a decorator, like numba's
    """numba's `extending.intrinsic`, put off until a kernel that uses it is compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._made: Any = None
        self.__name__ = function.__name__

    @property
    def _numba_type_(self) -> Any:
        from numba.core.registry import cpu_target
        from numba.extending import intrinsic as made

        if self._made is None:
            self._made = made(self.function)
            cpu_target.typing_context.refresh()
        return cpu_target.typing_context.resolve_value_type(self._made)


class Compiled:
    """A function that compiles at its first call; for numba it is the dispatcher it becomes."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any], *, keep: bool) -> None:
        self.py_func, self.options, self.keep = function, options, keep
        self.__name__, self.__doc__, self.__module__, self.__wrapped__ = function.__name__, function.__doc__, function.__module__, function
        self._native: dict[Kind, Callable[..., Any]] = {}
        self._dispatcher: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if named or not self.keep or _numba_is_told():
            return self.dispatcher(*arguments, **named)
        kind = tuple([_kind_of(argument) for argument in arguments])
        native = self._native.get(kind)
        if native is None:
            with _compiling:
                native = self._native[kind] = self._native.get(kind) or self._made(kind, arguments)
        return native(*arguments)

    @property
    def dispatcher(self) -> Any:
        """numba's own."""
        if self._dispatcher is None:
            from numba import njit

            with _compiling:
                if self._dispatcher is None:
                    hidden = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
                    self._dispatcher = njit(**(self.options | hidden))(self.py_func) if self.keep else self._plain()
        return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        return self.dispatcher._numba_type_

    @property
    def targetoptions(self) -> dict[str, Any]:
        """What numba asks of a function it may put into its caller."""
        asked: dict[str, Any] = self.dispatcher.targetoptions
        return asked

    def _made(self, kind: Kind, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        """What answers calls of a kind: kept machine code, else what numba compiles now, which is kept."""
        path = _folder(self.py_func) / f"{self.__name__}-{_name(self, kind)}.kernel"
        found = _read(path)
        if found is not None:
            with contextlib.suppress(OSError, RuntimeError, ValueError, KeyError):
                return _caller(self, kind, *found)
        from numba import typeof

        signature = tuple([typeof(argument) for argument in arguments])  # type: ignore[no-untyped-call]
        self.dispatcher.compile(signature)
        made = self.dispatcher.overloads[signature]
        returns, library, symbol = _returns(made.signature.return_type), made.library, made.fndesc.llvm_func_name
        calls = {f.name for f in library._final_module.functions if f.is_declaration and not f.name.startswith("llvm.")}
        if returns is None or not calls <= KNOWN_CALLS or not _READABLE:  # it allocates, or hands back what only numba can wrap
            plain: Callable[..., Any] = self._plain()
            return plain
        head = {"returns": returns, "calls": sorted(calls), "kernel": len(library._compiled_object)}
        code = library._compiled_object + _entry(symbol, kind)
        _write(path, head, code)
        return _caller(self, kind, head, code)

    def _plain(self) -> Any:
        """A dispatcher that Python may call."""
        from numba import njit

        made = njit(**self.options)(self.py_func)
        made._cache = _cache_of(self)
        return made


def _cache_of(function: Compiled) -> Any:
    """numba's own cache on disk, by all that the function is made of."""
    from numba.core.caching import FunctionCache

    content = hashlib.sha256(_content(function, set()).encode()).hexdigest()

    class ByContent(FunctionCache):
        def _index_key(self, signature: Any, codegen: Any) -> Any:
            return (*super()._index_key(signature, codegen), content)  # type: ignore[no-untyped-call]

    return ByContent(function.py_func)  # type: ignore[no-untyped-call]


def _caller(of: Compiled, kind: Kind, head: dict[str, Any], code: bytes) -> Callable[..., Any]:
    """A Python function that calls the machine code; its own words are written for the kind of arguments.

    Raises:
        ValueError: this process cannot run it.
    """
    returns = head["returns"]
    names = [name for name in ([returns] if isinstance(returns, str) else returns) if name]
    fields = [(f"r{n}", _C_TYPES[name]) for n, name in enumerate(names)]
    # None is written too, as an address of nothing
    result = type("Result", (ctypes.Structure,), {"_fields_": [*fields, ("end", ctypes.c_int64)]})
    values = [f"bool(result.r{n})" if name == "b1" else f"result.r{n}" for n, name in enumerate(names)]
    answer = f"({', '.join(values)},)" if not isinstance(returns, str) else values[0] if values else "None"
    parameters = [f"a{n}" for n in range(len(kind))]
    parts = [part for name, one in zip(parameters, kind, strict=True) for part in _parts(name, one)]
    # numpy's integers and truths are no numbers to ctypes
    words = [name if one == "f8" else f"int({name})" if isinstance(one, str) else f"id({name})" for name, one in parts]
    text = (
        f"def call({', '.join(parameters)}):\n"
        "    result, error = Result(), Address()\n"
        f"    if native({', '.join(['addressof(result)', 'addressof(error)', *words])}) not in (0, -2):\n"  # -2: it returned None
        f"        return of._plain()({', '.join(parameters)})  # for the error it raises\n"
        f"    return {answer}\n"
    )
    types_of = [_C_TYPES[one] if isinstance(one, str) else ctypes.c_void_p for _, one in parts]
    native = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *types_of)(_loaded(head, code))
    scope = {"Result": result, "Address": ctypes.c_void_p, "addressof": ctypes.addressof, "native": native, "of": of}
    exec(text, scope)  # noqa: S102 - our own words about types alone
    return cast("Callable[..., Any]", scope["call"])


def _parts(name: str, kind: Any) -> list[tuple[str, Any]]:
    """Arrays and numbers of an argument: those of a tuple, one after the other."""
    if not isinstance(kind, str) and isinstance(kind[0], type):
        return [part for n, one in enumerate(kind[1]) for part in _parts(f"{name}[{n}]", one)]
    return [(name, kind)]


def _entry(symbol: str, kind: Kind) -> bytes:
    """Machine code that reads arrays where extensions in C do, and calls the kernel by numba's convention.

    That is: where the result goes, where an error would, then of each array its owner and parent (nobody's), items, bytes of one, address,
    shape, strides. Spelling those out in Python takes longer than many a kernel.
    """
    lines, words, asked = [], ["ptr %result", "ptr %error"], ["ptr %result", "ptr %error"]
    for n, (_, one) in enumerate([part for argument in kind for part in _parts("", argument)]):
        if isinstance(one, str):
            asked.append(f"{_LLVM_TYPES[one]} %a{n}")
            words.append(f"{_LLVM_TYPES[one]} %a{n}")
            continue
        asked.append(f"ptr %a{n}")
        for what, offset in _ARRAY.items():
            lines += [f"%p{n}{what} = getelementptr i8, ptr %a{n}, i64 {offset}", f"%{what}{n} = load ptr, ptr %p{n}{what}"]
        axes = range(one[1])
        for what in ("shape", "strides"):
            for axis in axes:
                lines += [f"%p{n}{what}{axis} = getelementptr i64, ptr %{what}{n}, i64 {axis}"]
                lines += [f"%{what}{n}_{axis} = load i64, ptr %p{n}{what}{axis}"]
        size = "1"
        for axis in axes:
            lines += [f"%size{n}_{axis} = mul i64 {size}, %shape{n}_{axis}"]
            size = f"%size{n}_{axis}"
        words += ["ptr null", "ptr null", f"i64 {size}", f"i64 {one[0].itemsize}", f"ptr %data{n}"]
        words += [f"i64 %{what}{n}_{axis}" for what in ("shape", "strides") for axis in axes]
    declared = ", ".join(word.split()[0] for word in words)
    body = "\n".join(lines)
    text = f"""declare i32 @"{symbol}"({declared})
define i32 @entry({", ".join(asked)}) {{
{body}
%status = call i32 @"{symbol}"({", ".join(words)})
ret i32 %status
}}"""
    code: bytes = _machine().emit_object(_llvm().parse_assembly(text))
    return code


def _kind_of(argument: Any) -> Any:
    """What numba would tell apart: of arrays the type, dimensions, layout, and whether it may be written."""
    if isinstance(argument, np.ndarray):
        flags = argument.flags
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return argument.dtype, argument.ndim, layout, flags.aligned, flags.writeable
    if isinstance(argument, tuple):
        return type(argument), tuple([_kind_of(part) for part in argument])
    number = _NUMBERS.get(type(argument))
    if number is None and isinstance(argument, np.generic):
        number = argument.dtype.str[1:]
    if number not in _C_TYPES:
        raise TypeError(f"a compiled function takes arrays, numbers and named tuples of these, not {type(argument).__name__}")
    return number


def _read_like_c(array: np.ndarray[Any, Any]) -> tuple[int | None, list[int], list[int]]:
    """Address, shape and strides of an array, from where its fields are."""
    data, shape, strides = (ctypes.c_void_p.from_address(id(array) + offset).value for offset in _ARRAY.values())
    axes = [(ctypes.c_int64 * array.ndim).from_address(at or 0) for at in (shape, strides)]
    return data, list(axes[0]), list(axes[1])


def _readable() -> bool:
    """Whether arrays lie in memory as numpy's headers have had it since its first version."""
    probe = np.zeros((7, 5))[1::2, ::3]
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8 or object.__basicsize__ != _ARRAY["data"]:
        return False
    return _read_like_c(probe) == (probe.ctypes.data, list(probe.shape), list(probe.strides))


#: Where an array's fields are, in bytes.
_ARRAY: Final = {"data": 16, "shape": 32, "strides": 40}
_READABLE: Final = _readable()


def _returns(kind: Any) -> list[str] | str | None:
    """Types of a result by `_C_TYPES`; empty where there is none, None where it is more than numbers."""
    from numba import types as nb

    names = {nb.float64: "f8", nb.int64: "i8", nb.boolean: "b1", nb.none: ""}
    if isinstance(kind, nb.BaseTuple):
        several = [names.get(one) for one in kind.types]  # type: ignore[attr-defined]
        return [one for one in several if one] if all(several) else None
    return names.get(kind)


@lru_cache(maxsize=1)
def _numba_is_told() -> bool:
    """Whether the environment asks something of numba that kept code would not know of (no compiling, debugging, another processor)."""
    harmless = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER")
    return any(name.startswith("NUMBA_") and name not in harmless for name in os.environ)


def _folder(function: Callable[..., Any]) -> Path:
    """Beside the sources like Python's own compiled files; below the user's cache where that cannot be written."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(named)
    beside = Path(function.__code__.co_filename).parent
    if os.access(beside, os.W_OK):
        return beside / "__pycache__"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "options-agent" / "kernels"


def _read(path: Path) -> tuple[dict[str, Any], bytes] | None:
    """Head and machine code; None where there is none or it is not whole."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        found: dict[str, Any] = json.loads(head)
    except (OSError, ValueError):
        return None
    return (found, code) if found.get("sha256") == hashlib.sha256(code).hexdigest() else None


def _write(path: Path, head: dict[str, Any], code: bytes) -> None:
    """Keep machine code; a folder that cannot be written costs another process its time, not this one its result."""
    from options_agent.errors import StorageError

    line = json.dumps(head | {"sha256": hashlib.sha256(code).hexdigest()}).encode()
    with contextlib.suppress(OSError, StorageError):
        write_bytes(path, line + b"\n" + code)
        former = sorted(path.parent.glob(f"{path.stem.rpartition('-')[0]}-*.kernel"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in former[KEPT:]:
            old.unlink(missing_ok=True)


def _loaded(head: dict[str, Any], code: bytes) -> int:
    """Address of kept machine code in this process.

    Raises:
        ValueError: the process has not what it calls, or arrays lie otherwise than it reads them.
    """
    llvm, process = _llvm(), ctypes.CDLL(None)
    for name in head["calls"]:  # a missing one would end the process
        if name not in KNOWN_CALLS or not hasattr(process, name):
            raise ValueError(name)
    if not _READABLE:
        raise ValueError("arrays")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    for part in (code[: head["kernel"]], code[head["kernel"] :]):
        engine.add_object_file(llvm.ObjectFileRef.from_data(part))
    engine.finalize_object()
    _engines.append(engine)
    address: int = engine.get_function_address("entry")
    if not address:
        raise ValueError("entry")
    return address


@lru_cache(maxsize=1)
def _llvm() -> Any:
    import llvmlite.binding as llvm  # type: ignore[import-untyped]

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _machine() -> Any:
    llvm = _llvm()
    return llvm.Target.from_default_triple().create_target_machine(jit=True)


#: Machine code lives as long as its engine.
_engines: list[Any] = []


def _name(function: Compiled, kind: Kind) -> str:
    return hashlib.sha256(repr((_versions(), _content(function, set()), kind)).encode()).hexdigest()[:24]


@lru_cache(maxsize=1)
def _versions() -> tuple[Any, ...]:
    from importlib.metadata import version

    llvm = _llvm()
    processor = (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), sys.platform)
    return FORMAT, sys.version_info[:3], version("numba"), version("llvmlite"), np.__version__, processor


def _content(value: Any, seen: set[int]) -> str:
    """What compiled code is made of: bytecode, constants, and all that its names stand for."""
    if isinstance(value, (Compiled, intrinsic)):
        options = sorted(value.options.items()) if isinstance(value, Compiled) else []
        return f"{options}{_content(value.py_func if isinstance(value, Compiled) else value.function, seen)}"
    if isinstance(value, types.FunctionType):
        if id(value) in seen:
            return value.__qualname__
        seen.add(id(value))
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = [_of_code(value.__code__), value.__defaults__, [_content(cell, seen) for cell in cells]]
        known = {name: value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__}
        return repr((value.__qualname__, parts, [(name, _content(known[name], seen)) for name in sorted(known)]))
    if isinstance(value, np.ndarray):
        return f"{value.dtype!r}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, type):
        return f"{value.__qualname__}{getattr(value, '_fields', '')}"
    if isinstance(value, (bool, int, float, complex, str, bytes, tuple, frozenset, np.dtype, np.generic, type(None))):
        return repr(value)
    return f"{type(value).__qualname__} {getattr(value, '__name__', '')}"


def _of_code(code: types.CodeType) -> tuple[Any, ...]:
    constants = [_of_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return code.co_code.hex(), code.co_names, code.co_varnames, constants


def _names(code: types.CodeType) -> set[str]:
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return {*code.co_names, *inner}
