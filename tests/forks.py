"""A process that has imported torch, and forks for the stages and commands of these tests: each takes 5 s to import it.

It is Tauflow's own (:mod:`tauflow.running.preload`), which serves the stages of one `dvc` command; here one serves all
projects of a process of tests. A fork imports the code of the project that it runs in.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tauflow.running.preload import DIRECTORY, OWNER

# With `-c`, the first place to import from is the current directory, which in a fork is the project's.
SERVE = """
import sys
from pathlib import Path

import dvc.repo, matplotlib.pyplot, mlflow.pyfunc, open_clip, pandas, psutil, scipy.stats

from tauflow.running.preload import serve

for name in [name for name in sys.modules if name.partition(".")[0] in ("artifacts", "pipeline", "tauflow")]:
    del sys.modules[name]
serve(Path(sys.argv[1]), psutil.Process(int(sys.argv[2])))
"""
# In place of the program `tauflow`. The main job is the real one: it is itself the owner of such a process.
TAUFLOW = f"""#!/bin/sh
[ "$1" != repro ] || exec {sys.executable} -m tauflow.cli "$@"
exec {sys.executable} -c '
import sys
from tauflow.running.preload import run_in_fork
run_in_fork()
sys.exit("no process to fork from")
' -m tauflow.cli "$@"
"""


@dataclass(frozen=True)
class ForkServer:
    """The running process: where its socket is, and a directory with the programs that use it."""

    sockets: Path
    programs: Path

    def serve(self, root: Path) -> dict[str, str]:
        """Let commands in a project find the process; return the environment that they need."""
        link = root / DIRECTORY.with_name(f"{DIRECTORY.name}-{socket.gethostname()}") / str(os.getpid())
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.sockets)
        return {OWNER: str(os.getpid())}


@contextmanager
def fork_server(directory: Path) -> Iterator[ForkServer]:
    """Start the process, wait until it is ready, and end it afterwards."""
    server = ForkServer(directory / "sockets", directory / "programs")
    for path in (server.sockets, server.programs):
        path.mkdir()
    (server.programs / "tauflow").write_text(TAUFLOW)
    (server.programs / "tauflow").chmod(0o755)
    command = [sys.executable, "-c", SERVE, str(server.sockets), str(os.getpid())]
    with subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not (server.sockets / "socket").exists():
            assert process.poll() is None, "it ended before it was ready"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield server
        process.terminate()
