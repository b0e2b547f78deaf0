"""The images that containers are made of: built once, of Debian's packages and our own files.

Each is a folder beside this file, with a Dockerfile that a person can build by hand. Its tag tells
all that went into it, so that one which is there is the right one. No registry is needed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zdtest.duration import written
from zdtest.engine.images.builder import IMAGE, SOFTWARE, Builder
from zdtest.engine.images.recipe import Recipe, pip_arguments, recipes
from zdtest.engine.ports import own_folder
from zdtest.engine.private import Tell, cache_folder, silent
from zdtest.engine.process import ProcessEngine
from zdtest.errors import EngineError, unknown

__all__ = ["Image", "Images"]

_DEBIAN = "debian:bookworm-slim"
_DOCUMENTED = {"dockercloud": "dockercloud/haproxy:latest"}
_LIKE = {"dockercloud": "haproxy"}
"""Ours that run the same software, and are asked for its version in the same way."""
_BOOTSTRAPPED_WITHIN = 300.0
_DOWNLOADED_WITHIN = 180.0


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the engine has."""

    name: str
    """``app``, ``haproxy``, ``nginx``, ``node`` or ``base``."""
    tag: str
    id: str
    """The digest of its configuration, and so of all that is in it."""
    version: str
    """What its software calls itself, such as ``nginx/1.22.1``; "" where it does not say."""
    size: int
    """In bytes, with all that it stands on."""


class Images:
    """The images of the engine at `address`, built where they are missing.

    `nginx` and `haproxy` name others, of the engine's or of a registry, to be taken instead of
    ours. `documented` says whether images that only documents have, such as ``dockercloud``, are to
    be had, and run in place of what stands in for them. `tell` hears of each step that takes long.
    """

    def __init__(
        self,
        address: str,
        *,
        nginx: str = "",
        haproxy: str = "",
        documented: bool = False,
        tell: Tell = silent,
    ) -> None:
        self._builder = Builder(address, tell)
        self._tell = tell
        self.documented = documented
        self._theirs = {"nginx": nginx, "haproxy": haproxy, **(_DOCUMENTED if documented else {})}
        self._got: dict[str, Image] = {}

    def get(self, name: str) -> Image:
        """Return the image of that name.

        Raises ConfigError when there is none, EngineError when it can be neither found nor made.
        """
        if name not in self._got:
            tag = self._theirs.get(name)
            self._got[name] = self._taken(name, tag) if tag else self._ours(name)
        return self._got[name]

    def _taken(self, name: str, tag: str) -> Image:
        """Return somebody else's image."""
        if not (there := self._builder.look(tag)):
            why = self._builder.pull(tag)
            if why or not (there := self._builder.look(tag)):
                raise EngineError(
                    f"image {tag}: {why or 'not there after the pull'}; "
                    f"expected one that the engine has or can pull, or none to have it built"
                )
        known = recipes()[_LIKE.get(name, name)]
        version = self._builder.output(name, there["Id"], known.version)
        return _image(name, tag, there, _plain(version))

    def _ours(self, name: str) -> Image:
        known = recipes()
        if name not in known:
            raise unknown("image", name, known)
        recipe = known[name]
        base = "" if name == "base" else self.get("base").id
        tag = f"zdtest/{name}:{recipe.digest(base)}"
        if not (there := self._builder.look(tag)):
            there = self._made(recipe, tag, base)
        return _image(name, tag, there, there["Config"]["Labels"].get(SOFTWARE, ""))

    def _made(self, recipe: Recipe, tag: str, base: str) -> Mapping[str, Any]:
        """Return the image, made now, its software's version in a label."""
        began = time.monotonic()
        name = recipe.name
        with _workshop() as shop:
            if there := self._builder.look(tag):  # another one has made it while we waited
                return there
            made = self._built(recipe, base, shop) if base else self._base(recipe, shop)
        version = _plain(self._builder.output(name, made, recipe.version))
        self._builder.label(name, made, tag, {IMAGE: name, SOFTWARE: version})
        self._tell(f"image {name}: {version}, made in {written(time.monotonic() - began)}")
        there = self._builder.look(tag)
        if there is None:
            raise EngineError(f"image {name} is gone as soon as it was built: {tag}")
        return there

    def _built(self, recipe: Recipe, base: str, shop: ProcessEngine) -> str:
        """Return the id of the image built by its Dockerfile."""
        packages = None
        if recipe.packages:
            packages = shop.folder / "packages"
            argv = [sys.executable, "-m", "pip", *pip_arguments(recipe.packages, packages)]
            with self._timed(f"image {recipe.name}: its Python packages, by pip"):
                _run(shop, "pip", argv, _DOWNLOADED_WITHIN, f"image {recipe.name}: no packages")
        context = recipe.context(packages)
        return self._builder.build(recipe.name, context, {IMAGE: recipe.name}, {"BASE": base})

    def _base(self, recipe: Recipe, shop: ProcessEngine) -> str:
        """Return the id of Debian's own image where it can be had, else of one made like it."""
        why = "" if self._builder.look(_DEBIAN) else self._builder.pull(_DEBIAN)
        if not why:
            return self._builder.build(recipe.name, recipe.context(), {IMAGE: recipe.name})
        self._tell(f"image base: {why.splitlines()[0]}; debootstrap makes it")
        what = f"image base: no {_DEBIAN}, and no debootstrap"
        if os.geteuid() != 0:
            raise EngineError(f"{what} without root: docker pull {_DEBIAN}, where a registry is")
        if not shutil.which("debootstrap"):
            raise EngineError(f"{what} here: apt-get install debootstrap")
        tar = shop.folder / "base.tar"
        argv = ["sh", str(recipe.folder / "bootstrap.sh"), str(tar)]
        with self._timed("image base: debootstrap"):
            _run(shop, "bootstrap", argv, _BOOTSTRAPPED_WITHIN, what)
        with self._timed("image base: taken in by the engine"):
            return self._builder.load(recipe.name, tar)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._tell(f"{what}  {written(time.monotonic() - began)}")


def _image(name: str, tag: str, there: Mapping[str, Any], version: str) -> Image:
    return Image(name, tag, there["Id"], version, there["Size"])


def _plain(version: str) -> str:
    """Return what software calls itself, without words around it."""
    first = version.partition("\n")[0].removeprefix("nginx version: ").partition(" - http")[0]
    return f"Debian {first}" if re.fullmatch(r"[\d.]+", first) else first


def _run(shop: ProcessEngine, name: str, argv: list[str], limit: float, what: str) -> None:
    """Run the command, ended with us in whatever way; raises EngineError with what to do."""
    try:
        shop.run(name, argv, env={"TMPDIR": str(shop.folder)}, timeout=limit)
    except EngineError as error:
        why = str(error)
        if "no space left" in why.lower():
            free = shutil.disk_usage(shop.folder).free / 1e6
            why = f"the disk is full: free some of {shop.folder} ({free:,.0f} MB free)\n{why}"
        raise EngineError(f"{what}: {why}") from error


@contextmanager
def _workshop() -> Iterator[ProcessEngine]:
    """Yield who runs what makes an image, one at a time on this machine, in an empty folder."""
    folder = cache_folder("workshop")
    with (own_folder() / "workshop").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(folder, ignore_errors=True)  # one that was killed here left it as it was
        folder.mkdir(parents=True)
        try:
            with ProcessEngine(f"images-{os.getpid()}", folder) as shop:
                yield shop
        finally:
            shutil.rmtree(folder)
