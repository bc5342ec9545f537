"""Tables through URLs: a column of Parquet, and Dask with worker processes."""

from __future__ import annotations

import io

import dask
import dask.dataframe as dd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from places import on_one

from index import provenance

TABLE = b"a,b\n1,2\n3,4\n"


@on_one(because="test_sharing.py shows that worker processes find the other kinds of store")
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of other libraries are not ours
def test_worker_processes_read_and_write_by_url_in_the_scope_of_their_parent(portable, run):
    run.put_many([(f"in/{number}.csv", TABLE) for number in range(3)])
    spawned = {"scheduler": "processes", "num_workers": 2, "multiprocessing.context": "spawn"}
    with dask.config.set(spawned), provenance(agent="analyst", phase="analysis"):
        frame = dd.read_csv("cas://s/r/in/*.csv", storage_options=portable)
        assert (frame.npartitions, frame["a"].sum().compute()) == (3, 12)
        frame.to_csv("cas://s/r/out/*.csv", storage_options=portable, index=False)
        frame.to_parquet("cas://s/r/out.parquet", storage_options=portable)
        again = dd.read_parquet("cas://s/r/out.parquet", storage_options=portable)
        assert again["b"].sum().compute() == 18
    written = run.files(prefix="out")
    assert len(written) == 6
    assert {(version.agent, version.phase) for version in written} == {("analyst", "analysis")}
    assert run.read_bytes("out/0.csv") == TABLE


MIB = 1 << 20
CHUNKS = 2 * MIB
"""The rest of the chunks that the footer, and the column in each group of rows, begin in."""


@pytest.fixture
def bytes_read(store, fs, monkeypatch):
    """The sizes of what is read of the packs in storage, by whoever reads."""
    sizes = []
    kind = type(store.context.blobs.backend)
    read = kind.read

    def counting(self, name, start=0, size=None):
        data = read(self, name, start, size)
        if name.startswith("packs/"):
            sizes.append(len(data))
        return data

    monkeypatch.setattr(kind, "read", counting)
    return sizes


def test_of_a_parquet_file_only_the_columns_that_are_asked_for_are_read(fs, run, bytes_read):
    draw = np.random.default_rng(7)
    table = pa.table({name: draw.random(512 << 10) for name in "abcdefgh"})
    written = io.BytesIO()
    pq.write_table(table, written, row_group_size=256 << 10, compression="none")
    run.put("table.parquet", written.getvalue())
    group = pq.ParquetFile(written).metadata.row_group(0)
    column = 2 * group.column(3).total_compressed_size
    bytes_read.clear()
    found = pq.read_table("s/r/table.parquet", filesystem=fs, columns=["d"])
    assert found["d"] == table["d"]
    read_ahead = column  # as much again as was read in a row
    assert column <= sum(bytes_read) <= column + read_ahead + CHUNKS < len(written.getvalue()) / 3
