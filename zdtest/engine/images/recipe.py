"""What an image is made of: a Dockerfile of ours, and what it copies."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from zdtest.errors import EngineError

_HERE = Path(__file__).parent
_PACKAGES = ("anyio", "httptools", "pyyaml", "starlette", "typing_extensions", "uvicorn")
"""What the sample app needs; named one by one, as pip asks this Python about conditions."""
_CONSTRAINTS = _HERE.parents[2] / "constraints.txt"


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image to be built; equal ones give equal digests."""

    name: str
    version: Sequence[str]
    """The command that prints, in the image, what its software calls itself."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """What is copied, by its name in the build's context."""
    packages: Sequence[str] = ()
    """What pip brings, as ``name==version``."""

    @property
    def folder(self) -> Path:
        """Where its Dockerfile is."""
        return _HERE / self.name

    def digest(self, *more: str) -> str:
        """Return 12 digits that change when anything that goes into the image does."""
        found = hashlib.sha256()
        for name, path in self.files().items():
            found.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        pinned = _CONSTRAINTS.read_text() if self.packages and _CONSTRAINTS.exists() else ""
        found.update("\0".join([*self.packages, pinned, *more]).encode())
        return found.hexdigest()[:12]

    def files(self) -> dict[str, Path]:
        """Return what is sent to the engine, by name, but for the packages."""
        found = {path.name: path for path in self.folder.iterdir()}
        for name, folder in self.folders.items():
            found |= _below(name, folder)
        return dict(sorted(found.items()))

    def context(self, packages: Path | None = None) -> io.BytesIO:
        """Return what is sent to the engine as a tar, with what pip brought to `packages`.

        Equal files give equal tars, so that the engine knows what it has built before.
        """
        files = self.files() | (_below("packages", packages) if packages else {})
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, path in sorted(files.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = path.stat().st_size, 0o755 if _runs(path) else 0o644
                with path.open("rb") as file:
                    tar.addfile(entry, file)
        out.seek(0)
        return out


def recipes() -> dict[str, Recipe]:
    """Return every image that is built, by name."""
    app = (
        "import platform; from importlib.metadata import version; "
        "print('Python', platform.python_version(), end=''); "
        "[print(f', {one}', version(one), end='') for one in ('starlette', 'uvicorn')]"
    )
    return {
        "base": Recipe("base", ("cat", "/etc/debian_version")),
        "app": Recipe("app", ("python3", "-c", app), {"sample_app": _sample_app()}, _pinned()),
        "haproxy": Recipe("haproxy", ("haproxy", "-v")),
        "nginx": Recipe("nginx", ("nginx", "-v")),
        "node": Recipe("node", ("dockerd", "--version")),
    }


def pip_arguments(packages: Sequence[str], target: Path) -> list[str]:
    """Return what pip is told to unpack them for the image's Python, and not for ours."""
    machine = os.uname().machine
    platforms = [f"manylinux2014_{machine}", f"manylinux_2_28_{machine}"]
    return [
        *("install", "--quiet", "--disable-pip-version-check", "--no-compile"),
        *("--target", str(target), "--only-binary=:all:", "--python-version", "3.11"),
        *(f"--platform={one}" for one in platforms),
        *(("-c", str(_CONSTRAINTS)) if _CONSTRAINTS.exists() else ()),
        *packages,
    ]


def _pinned() -> list[str]:
    """Return the packages in the versions with which the app runs as a plain process here."""
    try:
        return [f"{name}=={metadata.version(name)}" for name in _PACKAGES]
    except metadata.PackageNotFoundError as error:
        raise EngineError(
            f"image app: {error.name} is missing: pip install 'zdtest[scenarios]'"
        ) from error


def _sample_app() -> Path:
    found = importlib.util.find_spec("sample_app")
    if found is None or found.origin is None:
        raise EngineError("image app: there is no sample_app: expected a checkout of zdtest")
    return Path(found.origin).parent


def _below(name: str, folder: Path) -> dict[str, Path]:
    """Return the files below the folder, without what Python compiled of them."""
    return {
        f"{name}/{path.relative_to(folder)}": path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _runs(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)
