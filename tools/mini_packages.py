"""Download, verify and unpack the original packages of the mini suite's sources."""

import hashlib
import importlib.metadata
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packages:
    """The downloaded packages of one cache directory, each checked against the lock."""

    cache: Path
    lock: dict[str, dict[str, str]]
    relock: bool

    def npm(self, name: str) -> Path:
        """Return the directory of the unpacked npm package ``name``."""
        spec = f"{name}@{self.lock[name]['version']}"
        filename = f"{name.removeprefix('@').replace('/', '-')}-{self.lock[name]['version']}.tgz"
        return self._unpack(name, filename, ["npm", "pack", "--silent", spec])

    def debian(self, name: str) -> Path:
        """Return the directory of the unpacked Debian package ``name``."""
        version = self.lock[name]["version"]
        filename = f"{name}_{version.replace(':', '%3a')}_all.deb"
        return self._unpack(name, filename, ["apt-get", "download", "-qq", f"{name}={version}"])

    def python(self, name: str, path: str) -> Path:
        """Return the file of the installed Python package ``name`` that the lock pins."""
        return self._checked(name, Path(str(importlib.metadata.distribution(name).locate_file(path))))

    def _unpack(self, name: str, filename: str, command: list[str]) -> Path:
        archive, target = self.cache / filename, self.cache / "unpacked" / name
        if not archive.exists():
            try:
                subprocess.run(command, cwd=self.cache, check=True, stdout=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError) as error:
                raise SystemExit(f"{name} {self.lock[name]['version']}: not downloaded ({error})") from None
        self._checked(name, archive)
        if not target.exists():
            target.mkdir(parents=True)
            if archive.suffix == ".deb":
                subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], check=True)
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(target, filter="data")
        return target

    def _checked(self, name: str, path: Path) -> Path:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if self.relock:
            self.lock[name]["sha256"] = digest
        elif self.lock[name]["sha256"] != digest:
            raise SystemExit(f"{path}: SHA-256 is {digest}, the lock says {self.lock[name]['sha256']}")
        return path
