"""The page docs/guides/cluster.md, followed to the letter on one machine; Spark's decorator is a stand-in."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import types

import pytest
from click.testing import CliRunner

from polyface.cli import group

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def blocks(pytestconfig):
    page = (pytestconfig.rootpath / "docs/guides/cluster.md").read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def said(blocks, cluster, config, pytestconfig, tmp_path_factory):
    """What all that the page shows says, in its order, where three images lie in photos/."""
    duckdb = pytest.importorskip("duckdb", reason="needs DuckDB: pip install duckdb")
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "photos").mkdir()
    for name in ("astronaut", "collage", "grace_hopper"):
        shutil.copy(pytestconfig.rootpath / f"examples/{name}.jpg", folder / "photos")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stand_in = types.ModuleType("pyspark.sql.functions")
        stand_in.pandas_udf = lambda _: lambda function: function
        patch.setitem(sys.modules, "pyspark.sql.functions", stand_in)
        for language, text in blocks:
            if language == "console":
                for line in re.findall(r"^\$ polyface (.*)$", text, re.MULTILINE):
                    done = CliRunner().invoke(group, shlex.split(line))
                    assert done.exit_code == 0, (line, done.output)
                    said.append(done.output)
            elif language == "python":
                names = {"__name__": "__main__", "print": lambda *words: said.append(" ".join(map(str, words)))}
                exec(compile(text, "cluster.md", "exec"), names)  # noqa: S102 - that is the point
                said.append(names.get("find_faces"))
            elif language == "sql":
                said.append(duckdb.sql(text).fetchall())
    return said


def test_the_commands_and_the_table_give_what_is_in_the_photos(said):
    tables = [text for text in said if isinstance(text, str) and "Images" in text]
    assert len(tables) == 3
    assert [(3, 19, 0)] in said  # 1 + 17 + 1 faces


def test_the_dataset_says_how_many_images_have_a_face(said):
    assert "3 images have a face" in said


def test_the_function_for_spark_gives_lines_for_frames_of_pandas_after_it_was_pickled(said, pytestconfig):
    import json
    import pickle

    import pandas as pd
    from ray import cloudpickle

    [find_faces] = filter(callable, said)
    sent = pickle.loads(cloudpickle.dumps(find_faces))  # noqa: S301 - our own
    jpeg = (pytestconfig.rootpath / "examples/astronaut.jpg").read_bytes()
    frames = [pd.Series([jpeg, b"no image"]), pd.Series([], dtype=object), pd.Series([jpeg])]
    found = [[json.loads(line) for line in lines] for lines in sent(iter(frames))]
    assert [[(len(line["faces"]), bool(line["error"])) for line in lines] for lines in found] == [
        [(1, False), (0, True)],
        [],
        [(1, False)],
    ]
