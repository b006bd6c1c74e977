"""Files and contents in the catalog: compare them with a walk, write batches, remove paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from clipsearch._util.arrays import FloatArray
from clipsearch.catalog.connection import Connection, as_json, below, cell
from clipsearch.types.facts import FACTS, Fact, Facts

_MOVING = "\x01"  # before the path of a file that is on its way: no absolute path begins with it


class WalkedFile(Protocol):
    """A file as a walk finds it."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def root(self) -> str: ...


File = TypeVar("File", bound=WalkedFile)
State = Literal["new", "changed", "unembedded", "unchanged", "failed"]


class Pending(NamedTuple, Generic[File]):
    """A file that was found, and what the catalog makes of it."""

    file: File
    state: State
    """`unembedded`: unchanged, but no vector of this model; `failed`: unchanged since it failed."""
    content_id: int | None = None
    """The stored content of the path; None for a new one, and for one that could never be used."""
    reason: str | None = None
    """Why it failed."""

    @property
    def todo(self) -> bool:
        """Whether the file has to be read."""
        return self.state in ("new", "changed", "unembedded")


class PartVector(NamedTuple):
    """The vector of a part of an image."""

    part: int
    """0 is the whole image; a frame, a page or a crop has a number of its own."""
    at: str | None
    """Which part it is: seconds, a page or a box."""
    vector: FloatArray


class Entry(NamedTuple):
    """A file as it was read, to be committed: with its new parts.

    Bytes seen for the first time: sha256, facts and vector. Known bytes (a copy, a renamed or a
    touched file): sha256 alone. A file that could not be used: the error, and the sha256 if its
    bytes could be read. It keeps what the catalog knows of these bytes, or of the path.
    """

    path: str
    size: int
    mtime_ns: int
    root: str
    sha256: str | None = None
    facts: Facts | None = None
    vector: FloatArray | None = None
    """Of the whole image."""
    error: str | None = None
    parts: Sequence[PartVector] = ()
    """Of parts of it: frames of a video, pages, crops."""
    note: str | None = None
    """What a damaged image lacks, or what its decoder complained of."""

    def all_parts(self) -> list[PartVector]:
        """Return the vectors, with that of the whole image as part 0."""
        whole = [] if self.vector is None else [PartVector(0, None, self.vector)]
        return [*whole, *self.parts]


# --- pending files -------------------------------------------------------------------------


def pending(
    connection: Connection, found: Sequence[File], model_id: int, *, retry: bool
) -> list[Pending[File]]:
    """Compare files with the catalog, in their order, by one query."""
    rows = connection.execute(
        "SELECT file.path, file.size, file.mtime_ns, file.error, file.content_id, "
        "EXISTS (SELECT 1 FROM embedding WHERE embedding.content_id = file.content_id "
        "AND embedding.model_id = :model) "
        "FROM json_each(:paths) AS wanted JOIN file ON file.path = wanted.value",
        {"paths": json.dumps([file.path for file in found]), "model": model_id},
    )
    known = {row[0]: row for row in rows}
    return [_compare(file, known.get(file.path), retry) for file in found]


def _compare(file: File, row: Sequence[Any] | None, retry: bool) -> Pending[File]:
    if row is None:
        return Pending(file, "new")
    _, size, mtime_ns, error, content_id, embedded = row
    if size != file.size or mtime_ns != file.mtime_ns or (error is not None and retry):
        return Pending(file, "changed", content_id)
    if error is not None and not embedded:
        return Pending(file, "failed", content_id, error)
    return Pending(file, "unchanged" if embedded else "unembedded", content_id)


def newest_file(connection: Connection) -> int:
    """Return the id of the file that was added last, 0 if there is none."""
    return cell(connection.execute("SELECT max(id) FROM file")) or 0


def find_known(
    connection: Connection, sha256s: Iterable[str], model_id: int
) -> dict[str, tuple[int, bool]]:
    """Look contents up by the hashes of their bytes.

    Parameters
    ----------
    sha256s
        Hashes in hex; unknown ones are left out of the answer.
    model_id
        The model that is asked about.

    Returns
    -------
    sha256 -> (content id, whether it has a vector of this model).
    """
    rows = connection.execute(
        "SELECT content.sha256, content.id, "
        "EXISTS (SELECT 1 FROM embedding WHERE embedding.content_id = content.id "
        "AND embedding.model_id = :model) "
        "FROM json_each(:hashes) AS wanted JOIN content ON content.sha256 = wanted.value",
        {"hashes": json.dumps(list(sha256s)), "model": model_id},
    )
    return {sha256: (content_id, bool(embedded)) for sha256, content_id, embedded in rows}


def paths_of(connection: Connection, content_ids: Iterable[int]) -> dict[int, list[str]]:
    """Return content id -> the paths of the files that hold it, in order."""
    rows = connection.execute(
        "SELECT content_id, path FROM file "
        "WHERE content_id IN (SELECT value FROM json_each(:ids)) ORDER BY path",
        {"ids": as_json(content_ids)},
    )
    paths: dict[int, list[str]] = {}
    for content_id, path in rows:
        paths.setdefault(content_id, []).append(path)
    return paths


# --- writing -------------------------------------------------------------------------------


def put_contents(connection: Connection, entries: Sequence[Entry]) -> dict[str, int]:
    """Add contents, or refresh their facts; return sha256 -> content id of stored contents.

    Raises ValueError for an entry that is neither bytes nor a failure, or unknown bytes alone.
    """
    for entry in entries:
        has_image = entry.facts is not None or bool(entry.all_parts())
        if entry.error is not None if has_image else (entry.sha256 or entry.error) is None:
            raise ValueError(f"{entry.path}: an entry has an image or an error")
    used = [entry for entry in entries if entry.error is None]
    new = {
        entry.sha256: content_row(entry.sha256, entry.size, entry.facts, entry.note)
        for entry in used
        if entry.sha256 is not None and entry.facts is not None
    }
    if new:
        connection.executemany(_PUT_CONTENT, list(new.values()))
    hashes = {entry.sha256 for entry in entries if entry.sha256 is not None}
    rows = connection.execute(
        "SELECT sha256, id FROM content WHERE sha256 IN (SELECT value FROM json_each(:hashes))",
        {"hashes": json.dumps(sorted(hashes))},
    )
    ids = {sha256: content_id for sha256, content_id in rows}
    lost = next((entry for entry in used if entry.sha256 not in ids), None)
    if lost is not None:
        raise ValueError(f"{lost.path}: bytes that the catalog has not seen need their facts")
    return ids


def put_files(
    connection: Connection, entries: Sequence[Entry], content_ids: Mapping[str, int]
) -> None:
    """Add files, or replace what was known of them.

    An error replaces a content only where other bytes were read than it has: what could not be
    read is kept, with the error beside it. Of roots that lie in each other, the inner one stays.
    """
    rows = [
        {
            "path": entry.path,
            "content_id": content_ids.get(entry.sha256 or ""),
            "size": entry.size,
            "mtime_ns": entry.mtime_ns,
            "root": entry.root,
            "error": entry.error,
        }
        for entry in entries
    ]
    for statement, read in ((_PUT_FILE, True), (_PUT_UNREAD, False)):
        wanted = [(entry.sha256 is not None) == read for entry in entries]
        if any(wanted):
            connection.executemany(statement, list(compress(rows, wanted)))


def remove_paths(connection: Connection, paths: Iterable[str]) -> int:
    """Delete files from the catalog; their contents and vectors stay, should they come back.

    Parameters
    ----------
    paths
        Absolute paths; those that are not in the catalog are ignored.

    Returns
    -------
    How many files were deleted.
    """
    return connection.execute(
        "DELETE FROM file WHERE path IN (SELECT value FROM json_each(:paths))",
        {"paths": json.dumps(list(paths))},
    ).rowcount


def assign_roots(connection: Connection, roots: Iterable[str]) -> None:
    """Store that the files below each root belong to it, unless they do to another one inside it.

    Parameters
    ----------
    roots
        Folders and files that were given to index.
    """
    for root in roots:
        inside, params = below(root)
        connection.execute(
            f"UPDATE file SET root = :folder WHERE {inside} AND length(root) < length(:folder)",
            params,
        )


def move_folder(connection: Connection, old: str, new: str) -> int:
    """Give the files of a folder, or one file, the paths that they have in another.

    Where a path is known already, the row that was there stays, and the moved one goes; contents,
    vectors and labels are those of the bytes.

    Parameters
    ----------
    old, new
        Absolute; neither ends in a separator.

    Returns
    -------
    How many files were moved.
    """
    inside, params = below(old)
    # First to paths that no file has, as a new path may be the old one of another file.
    connection.execute(f"UPDATE file SET path = '{_MOVING}' || path WHERE {inside}", params)
    moving = f"file.path >= '{_MOVING}' AND file.path < '{chr(ord(_MOVING) + 1)}'"
    # By its length in the statement: another machine may have the folder elsewhere.
    target = ":new || substr(file.path, length(:old) + 2)"
    names = {"old": old, "new": new}
    connection.execute(
        f"DELETE FROM file WHERE {moving} AND EXISTS (SELECT 1 FROM file AS there "
        f"WHERE there.path = {target} AND there.content_id IS NOT NULL)",
        names,
    )
    connection.execute(
        f"DELETE FROM file WHERE path IN (SELECT {target} FROM file WHERE {moving})",
        names,
    )
    below_old = "(root = :old OR substr(root, 1, length(:old) + 1) = :inside)"
    names["inside"] = str(params["inside"])
    moved = connection.execute(
        f"UPDATE file SET root = CASE WHEN {below_old} THEN :new || substr(root, length(:old) + 1) "
        f"ELSE :new END, path = {target} WHERE {moving}",
        names,
    ).rowcount
    connection.execute(
        f"UPDATE scan SET root = :new || substr(root, length(:old) + 1) WHERE {below_old}", names
    )
    return moved


def _upsert(table: str, key: str, columns: Sequence[str]) -> str:
    updates = ", ".join(f"{name} = excluded.{name}" for name in columns if name != key)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"VALUES ({', '.join(':' + name for name in columns)}) "
        f"ON CONFLICT ({key}) DO UPDATE SET {updates}"
    )


_PUT_CONTENT = _upsert(
    "content", "sha256", ("sha256", "bytes", *(fact.name for fact in FACTS), "note")
)
_PUT_FILE = _upsert("file", "path", ("path", "content_id", "size", "mtime_ns", "root", "error"))
_PUT_FILE = _PUT_FILE.replace(
    "root = excluded.root",
    "root = CASE WHEN length(file.root) > length(excluded.root) "
    "THEN file.root ELSE excluded.root END",
)
_PUT_UNREAD = _PUT_FILE.replace("content_id = excluded.content_id, ", "")


def content_row(sha256: str, size: int, facts: Facts, note: str | None = None) -> dict[str, Any]:
    """Return the columns of a row of `content`."""
    stored = {fact.name: _to_stored(fact, getattr(facts, fact.name)) for fact in FACTS}
    return {"sha256": sha256, "bytes": size, **stored, "note": note}


def _to_stored(fact: Fact, value: Any) -> Any:
    if value in (None, ()):
        return None
    if fact.kind == "date":
        return (value.replace(tzinfo=None) if value.tzinfo else value).isoformat()
    return json.dumps(value, ensure_ascii=False) if fact.kind == "texts" else value
