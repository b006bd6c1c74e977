"""Files of embeddings, of clipsearch and of other tools, are read row by row."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipsearch.distributed.parts import EmbeddingRow, model_of_parts, read_parts
from clipsearch.errors import BadParts

VECTORS = np.eye(4, 8, dtype=np.float16)


def rows_of(source: Path) -> list[EmbeddingRow]:
    return [row for rows in read_parts(source) for row in rows]


def vectors_of(rows: list[EmbeddingRow]) -> np.ndarray:
    return np.stack([row.vector for row in rows if row.vector is not None])


def table(columns: dict[str, Any], vectors: np.ndarray, name: str = "embedding") -> pa.Table:
    kind = pa.list_(pa.from_numpy_dtype(vectors.dtype), vectors.shape[1])
    flat = pa.array(vectors.ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.table({**columns, name: lists})


def paths(count: int = 4) -> list[str]:
    return [f"/images/{number}.jpg" for number in range(count)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["embedding", "vector", "IMAGE_EMBEDDING"])
def test_parquet_holds_paths_vectors_and_facts(tmp_path: Path, dtype: Any, name: str) -> None:
    facts = {
        "sha256": [f"{number:064d}" for number in range(4)],
        "width": [640, 640, None, 640],
        "height": [480] * 4,
        "format": ["JPEG"] * 4,
        "taken_at": [datetime(2024, 5, 1, 12)] * 4,
        "camera": ["Canon", None, "Canon", "Canon"],
        "iso": [100.0, float("nan"), 100.0, -5.0],
        "keywords": [["a", "b"], [], None, ["c"]],
        "labels": [["cat"], [], None, []],
        "bytes": [7] * 4,
        "mtime_ns": [8] * 4,
    }
    pq.write_table(
        table({"path": paths(), **facts}, VECTORS.astype(dtype), name), tmp_path / "p.parquet"
    )
    rows = rows_of(tmp_path / "p.parquet")
    np.testing.assert_array_equal(vectors_of(rows), VECTORS.astype(dtype))
    assert [row.path for row in rows] == paths()
    first = rows[0]
    assert (first.sha256, first.bytes, first.mtime_ns) == (f"{0:064d}", 7, 8)
    assert first.labels == ("cat",) and rows[2].labels == ()
    assert first.facts is not None
    assert (first.facts.width, first.facts.height, first.facts.format) == (640, 480, "JPEG")
    assert (first.facts.camera, first.facts.keywords) == ("Canon", ("a", "b"))
    assert first.facts.taken_at == datetime(2024, 5, 1, 12)
    assert rows[1].facts is not None and rows[1].facts.iso is None
    assert rows[2].facts is None  # its width is not known
    assert rows[3].facts is not None and rows[3].facts.iso is None


@pytest.mark.parametrize("column", ["path", "image_path", "url", "file_name", "key"])
def test_columns_are_found_by_the_names_that_tools_give_them(tmp_path: Path, column: str) -> None:
    made = table({"caption": ["x"] * 4, column: paths(), "similarity": [0.3] * 4}, VECTORS)
    pq.write_table(made, tmp_path / "p.parquet")
    assert [row.path for row in rows_of(tmp_path / "p.parquet")] == paths()


def test_facts_of_other_types_are_left_out(tmp_path: Path) -> None:
    other = {"width": ["wide"] * 4, "height": [1] * 4, "title": [7] * 4}
    pq.write_table(table({"path": paths(), **other}, VECTORS), tmp_path / "p.parquet")
    assert {row.facts for row in rows_of(tmp_path / "p.parquet")} == {None}
    other |= {"width": [3] * 4}
    pq.write_table(table({"path": paths(), **other}, VECTORS), tmp_path / "p.parquet")
    facts = rows_of(tmp_path / "p.parquet")[0].facts
    assert facts is not None and (facts.width, facts.title) == (3, None)


def test_columns_of_pandas_and_of_other_tools_are_understood_or_left_out(tmp_path: Path) -> None:
    other = {
        "path": ["a.jpg", None, "c.jpg", "d.jpg"],
        "width": [640.0, float("nan"), 640.5, -1.0],
        "height": [480.0] * 4,
        "bytes": [7.0, float("nan"), 1e30, -1.0],
        "sha256": ["0" * 64, "0" * 63, "X" * 64, None],
        "labels": ["cat", None, "dog", ""],
        "fingerprint": [1, 2, 3, 4],
    }
    pq.write_table(table(other, VECTORS), tmp_path / "p.parquet")
    rows = rows_of(tmp_path / "p.parquet")
    assert [row.path for row in rows] == ["a.jpg", "", "c.jpg", "d.jpg"]
    assert [row.facts and row.facts.width for row in rows] == [640, None, None, None]
    assert [row.bytes for row in rows] == [7, None, None, None]
    assert [row.sha256 for row in rows] == ["0" * 64, None, None, None]
    assert [row.labels for row in rows] == [("cat",), (), ("dog",), ()]
    assert {row.fingerprint for row in rows} == {None}


def test_a_row_without_a_vector_tells_why(tmp_path: Path) -> None:
    lists = pa.array([[1.0, 0.0], None, [0.0, 1.0]], pa.list_(pa.float32()))
    made = pa.table({"path": paths(3), "embedding": lists, "error": [None, "is damaged", None]})
    pq.write_table(made, tmp_path / "p.parquet")
    rows = rows_of(tmp_path / "p.parquet")
    assert [row.error for row in rows] == [None, "is damaged", None]
    assert rows[1].vector is None
    np.testing.assert_array_equal(vectors_of(rows), [[1, 0], [0, 1]])


def test_npz_of_export_is_read(tmp_path: Path) -> None:
    hashes = np.array([f"{number:064x}" for number in range(4)])
    np.savez(tmp_path / "p.npz", paths=np.array(paths()), sha256=hashes, vectors=VECTORS)
    rows = rows_of(tmp_path / "p.npz")
    assert [(row.path, row.sha256) for row in rows] == list(zip(paths(), hashes, strict=True))
    np.testing.assert_array_equal(vectors_of(rows), VECTORS)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("digits", [1, 4])
def test_the_layout_of_clip_retrieval_and_laion_is_read(
    tmp_path: Path, flat: bool, digits: int
) -> None:
    for number in range(11):
        name = f"{number:0{digits}d}"
        embeddings = tmp_path if flat else tmp_path / "img_emb"
        metadata = tmp_path if flat else tmp_path / "metadata"
        for folder in (embeddings, metadata):
            folder.mkdir(exist_ok=True)
        np.save(embeddings / f"img_emb_{name}.npy", VECTORS)
        own = [f"{number}/{one}.jpg" for one in range(4)]
        made = pa.table(
            {
                "image_path": own,
                "caption": ["x"] * 4,
                "original_width": [9] * 4,
                "original_height": [5] * 4,
            }
        )
        pq.write_table(made, metadata / f"metadata_{name}.parquet")
    (tmp_path / "text_emb").mkdir()
    np.save(tmp_path / "text_emb" / "text_emb_0.npy", VECTORS)
    rows = rows_of(tmp_path)
    assert [row.path for row in rows] == [f"{n}/{one}.jpg" for n in range(11) for one in range(4)]
    assert rows[0].facts is not None and (rows[0].facts.width, rows[0].facts.height) == (9, 5)
    np.testing.assert_array_equal(vectors_of(rows[8:12]), VECTORS)


def test_a_folder_of_parts_is_read_in_order(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        made = table({"path": [f"{number}-{one}" for one in range(4)]}, VECTORS)
        pq.write_table(made, tmp_path / f"part-{number}.parquet")
    (tmp_path / "README.txt").write_text("no part")
    assert [row.path[0] for row in rows_of(tmp_path)] == [*"000011112222"]


def broken(folder: Path, kind: str) -> Path:  # noqa: C901 - a list of files, one after the other
    """Write something that cannot be read; return it."""
    path = folder / ("p.npz" if "npz" in kind else "p.parquet")
    match kind:
        case "missing":
            return folder / "nothing.parquet"
        case "suffix":
            path = folder / "p.csv"
            path.write_text("a,b")
        case "empty folder":
            return folder
        case "cut" | "cut npz":
            path.write_bytes(b"PAR1" + bytes(40) if kind == "cut" else b"PK\x03\x04" + bytes(30))
        case "no vectors":
            pq.write_table(pa.table({"path": paths(), "note": [1] * 4}), path)
        case "no paths":
            pq.write_table(table({"note": [1] * 4}, VECTORS), path)
        case "lengths":
            lists = pa.array([[1.0], [1.0, 2.0]], pa.list_(pa.float32()))
            pq.write_table(pa.table({"path": paths(2), "embedding": lists}), path)
        case "integers":
            pq.write_table(table({"path": paths()}, VECTORS.astype(np.int32)), path)
        case "bytes":
            blobs = [row.tobytes() for row in VECTORS]
            pq.write_table(pa.table({"path": paths(), "embedding": blobs}), path)
        case "npz without vectors":
            np.savez(path, paths=np.array(paths()))
        case "npz of objects":
            np.savez(path, paths=np.array(paths(), object), vectors=VECTORS)
        case "npz of other lengths":
            np.savez(path, paths=np.array(paths(3)), vectors=VECTORS)
        case "npz of one dimension":
            np.savez(path, paths=np.array(paths()), vectors=VECTORS[0])
        case "no metadata":
            np.save(folder / "img_emb_0.npy", VECTORS)
            return folder
        case "fewer metadata" | "more metadata":
            np.save(folder / "img_emb_0.npy", VECTORS)
            count = 3 if kind == "fewer metadata" else 5
            pq.write_table(pa.table({"path": paths(count)}), folder / "metadata_0.parquet")
            return folder
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "it is not there"),
        ("suffix", "neither a .parquet nor an .npz"),
        ("empty folder", "it holds no .parquet"),
        ("cut", "cannot be ingested"),
        ("cut npz", "cannot be ingested"),
        ("no vectors", r"none of its columns \(path, note\) holds vectors: embedding"),
        ("no paths", r"none of its columns \(note, embedding\) holds paths: path"),
        ("lengths", "vectors have 1 and 2 numbers"),
        ("integers", "int32, not floating"),
        ("bytes", "its vectors are binary, not lists of numbers"),
        ("npz without vectors", "no arrays `paths` and `vectors`"),
        ("npz of objects", "cannot be ingested"),
        ("npz of other lengths", "different numbers of rows"),
        ("npz of one dimension", "1 dimensions"),
        ("no metadata", "no metadata_0.parquet"),
        ("fewer metadata", "4 rows, and .* 3 or more"),
        ("more metadata", "4 rows, and .* 5 or more"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, kind: str, said: str) -> None:
    with pytest.raises(BadParts, match=said):
        rows_of(broken(tmp_path, kind))


def test_the_model_is_that_of_the_first_part_that_says_one(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 0.0]] * 2, pa.list_(pa.float32()))
    table = {"path": ["/a", "/b"], "embedding": vectors}
    pq.write_table(pa.table(table), tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes(b"no Parquet")
    (tmp_path / "parts").mkdir()
    named = pa.table(table | {"model": [None, "mini"]})
    pq.write_table(named, tmp_path / "parts" / "1.parquet")
    assert model_of_parts([tmp_path / "none", tmp_path / "2.parquet"]) is None
    assert model_of_parts([tmp_path / "1.parquet"]) is None
    assert model_of_parts([tmp_path / "2.parquet", tmp_path / "parts"]) == "mini"
