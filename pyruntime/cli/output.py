"""Output files: refused before the work starts, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyruntime.errors import OptionError


def check_output(option: str, path: str, *inputs: str | None) -> None:
    """Raises OptionError unless a file can be made at `path` and it is none of `inputs`. Writes nothing."""
    target = Path(path)
    parent = target.parent
    if target.is_dir():
        raise OptionError(f"{option} {path}: is a directory; name a file")
    if not parent.is_dir():
        raise OptionError(f"{option} {path}: the directory {str(parent)!r} does not exist; create it first")
    for source in inputs:
        if source is not None and target.exists() and Path(source).exists() and target.samefile(source):
            raise OptionError(f"{option} {path}: is also an input; name another file")
    try:
        if target.exists():
            with target.open("ab"):
                pass
        if _is_regular(target):
            with tempfile.TemporaryFile(dir=parent):
                pass
    except OSError as error:
        raise OptionError(f"{option} {path}: cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def atomic_output(path: str) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when the block ends, and vanishes if the block fails.

    The temporary file has the suffix of `path` and stands beside it, so that the last step is one rename.
    What is not a regular file (a device, a pipe) is written through, never replaced.
    """
    target = Path(os.path.realpath(path))
    regular = _is_regular(target)
    folder = target.parent if regular else Path(tempfile.gettempdir())
    temporary = folder / f".{target.stem}.{secrets.token_hex(4)}{target.suffix}"
    try:
        yield temporary
        if regular:
            os.replace(temporary, target)
        else:
            with temporary.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: str, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True
