from __future__ import annotations

import json

import pytest


@pytest.fixture
def tracked(cas, tmp_path, work):
    (work / "plan.md").write_text("a plan")
    assert cas("track", work, "--agent", "planner")[0] == 0
    return cas


def test_a_store_whose_index_is_lost_says_what_to_do_and_that_does_it(tracked, tmp_path):
    (tmp_path / ".cas/index.db").unlink()
    code, _, err = tracked("ls")
    assert code == 1
    assert "`cas recover`" in err
    code, out, err = tracked("recover")
    assert (code, err) == (0, "")
    assert out.endswith(
        "recovered: 1 session, 1 run, 1 snapshot, 1 file version, 2 blobs in 1 pack\n"
    )
    assert "default/work: snapshot 1 by planner" in out
    assert tracked("cat", "plan.md")[1] == "a plan"


def test_a_dry_run_says_what_would_come_back_even_beside_an_index(tracked, tmp_path):
    code, out, _ = tracked("recover", "--dry-run", "--json")
    told = json.loads(out)
    assert (code, told["dry_run"], told["is_whole"], told["versions"]) == (0, True, True, 1)
    assert tracked("recover", "--dry-run")[1].splitlines()[-1].startswith("would be recovered: ")
    assert tracked("cat", "plan.md")[0] == 0


def test_an_index_that_is_there_is_not_replaced(tracked):
    code, _, err = tracked("recover")
    assert code == 1
    assert "move it away first" in err


def test_what_can_not_come_back_is_listed_and_the_code_is_3(tracked, tmp_path):
    (pack,) = (tmp_path / ".cas/packs").glob("*/*.pack")
    assert tracked("put", pack, "--as", "copy")[0] == 0
    pack.write_bytes(pack.read_bytes()[:40])
    (tmp_path / ".cas/index.db").unlink()
    code, out, err = tracked("recover")
    assert code == 3
    assert f"packs/{pack.parent.name}/{pack.name}: 40 bytes are too few for a pack" in err
    assert "what came before it is missing" in out


def test_copies_of_the_index(tracked, tmp_path):
    code, out, _ = tracked("backup", "--keep", "2", "--json")
    told = json.loads(out)
    assert (code, told["kept"]) == (0, 1)
    assert tracked("backup", "--keep", "2")[1].endswith("; 2 copies kept\n")
    assert tracked("backup", "--keep", "0")[0] == 2
    (tmp_path / ".cas/index.db").unlink()
    code, out, _ = tracked("recover")
    assert code == 0
    assert out.splitlines()[-1].startswith("from the copy of 2")


def test_where_there_is_nothing_nothing_is_recovered(cas, tmp_path):
    code, _, err = cas("--store", tmp_path / "nothing", "recover")
    assert code == 4
    assert "nothing" in err
