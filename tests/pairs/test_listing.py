"""Lists of pairs: what is accepted, and what is said about what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.listing import check_list
from sempairs.pairs.plan import PairPlan, plan_pairs


@pytest.fixture
def five(make: Any) -> Catalog:
    return make(
        "a b c d e",
        split=["train", "train", "train", "train", "test"],
        file_hash=["1", "2", "3", "1", "5"],
    )


def listed(catalog: Catalog, file: Path, **config: Any) -> PairPlan:
    return plan_pairs(catalog, PairsConfig(relation="listed", file=str(file), **config))


def ids(plan: PairPlan, epoch: int = 0) -> list[tuple[str, str]]:
    names, found = plan.catalog.column("image_id"), plan.epoch(epoch)
    return list(zip(names[found.anchor], names[found.partner], strict=True))


def test_a_list_is_taken_as_it_stands(five: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("\ufeffpartner, anchor ,score,note\nb,c,0.5,x\nc,a,,y\n\nb,a,1e-3,\n", encoding="utf-8")
    plan = listed(five, file)
    assert ids(plan) == [("a", "b"), ("a", "c"), ("c", "b")]
    np.testing.assert_array_equal(plan.selection.score, [1e-3, np.nan, 0.5])
    # No labels: pairs that hang together share a meaning.
    assert plan.meaning.tolist() == [0, 0, 0]
    assert plan.images.tolist() == [0, 1, 2]
    assert ids(listed(five, file, arm="augmented")) == [("a", "a"), ("a", "a"), ("c", "c")]


def test_csv_and_parquet_in_any_order_give_one_hash(five: Catalog, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("anchor,partner\na,b\nc,d\n")
    pq.write_table(pa.table({"anchor": ["d", "b"], "partner": ["c", "a"]}), tmp_path / "two.parquet")
    one, two = listed(five, tmp_path / "one.csv"), listed(five, tmp_path / "two.parquet")
    assert one.manifest_hash == two.manifest_hash
    assert one.anchor_hash != two.anchor_hash  # which of two is the anchor is the list's own choice
    assert len(set(one.meaning.tolist())) == 1  # a and d are one picture


def test_meaning_of_a_list_is_the_concept_or_category_where_known(make: Any, tmp_path: Path) -> None:
    catalog = make(
        "a b c d e f g h",
        concept=["x", "x", None, None, "x", "x", None, None],
        category=[None, None, "k", "k", None, None, None, None],
    )
    file = tmp_path / "list.csv"
    file.write_text("anchor,partner\na,b\nc,d\ne,f\ng,h\n")
    assert listed(catalog, file).meaning.tolist() == [1, 0, 1, 2]


def test_a_redrawn_list_draws_among_those_an_image_is_listed_with(five: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("anchor,partner\na,b\nb,c\n")
    plan = listed(five, file, mode="redrawn")
    assert plan.n == 3
    found = {pair for epoch in range(40) for pair in ids(plan, epoch)}
    assert found == {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")}
    with pytest.raises(UserError, match="count cannot limit a redrawn list"):
        listed(five, file, mode="redrawn", count=2)


def test_limits_and_modifiers_apply_to_lists(make: Any, tmp_path: Path) -> None:
    names = [f"{i:02d}" for i in range(40)]
    catalog = make(names, category=[f"k{i // 4}" for i in range(40)])
    file = tmp_path / "list.csv"
    rows = [f"{a},{b}" for a, b in zip(names[::2], names[1::2], strict=True)]
    file.write_text("\n".join(["anchor,partner", *rows]))
    assert listed(catalog, file, count=7).n == 7
    assert set(listed(catalog, file, per_class=1).class_histogram().values()) == {1}
    plan = listed(catalog, file, corrupted=0.5)
    category, found = catalog.column("category"), plan.epoch(0)
    assert int((category[found.anchor] != category[found.partner]).sum()) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "anchor,partner\na,b\na,zz\n",
            r"list.csv line 3 partner 'zz' is not among the 5 images given, whose ids are such as 'a'$",
        ),
        (
            "anchor,partner\nq,b\nr,b\ns,b\n",
            r"line 2 anchor 'q' is not .* \(and 2 more bad rows\); `sempairs pairs check` lists them all$",
        ),
        ("anchor,partner\na,a\n", r"line 2 pairs 'a' with itself$"),
        ("anchor,partner\nb,c\na,e\n", r"line 3 pairs images of two splits, 'a' \(train\) and 'e' \(test\)$"),
        ("anchor,partner\na,d\n", r"line 2 pairs two copies of one picture, 'a' and 'd'$"),
        (
            "anchor,partner\na,b\n\nb,c\nb,a\n",
            r"line 5 repeats line 2 \('b', 'a'; the order in a pair does not",
        ),
        ("anchor,partner,score\na,b,high\n", r"line 2 score must be a finite number or empty, got 'high'$"),
        ("anchor,partner,score\na,b,nan\n", r"line 2 score must be a finite number or empty, got 'nan'$"),
        ("anchor,partner\na,b,c\n", r"line 2 has 3 cells where the header has 2$"),
        ("a,b\nc,d\n", r"must have one column 'anchor', got \['a', 'b'\]"),
        ("anchor,partner,anchor\na,b,c\n", "must have one column 'anchor'"),
        ("anchor,partner\n", r"holds no pair, got"),
        ("", r"must have one column 'anchor', got \[\]"),
        ('anchor,partner\n"a,b\n', "is not readable as CSV"),
        ('anchor,partner\n"two\nlines",b\n', r"line 3 anchor 'two\\nlines' is not among"),
    ],
)
def test_csv_errors_name_the_line(five: Catalog, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        listed(five, tmp_path / "list.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"anchor": ["a", None], "partner": ["b", "c"]}, r"row 2 has no anchor$"),
        ({"anchor": ["a"], "partner": ["zz"]}, r"row 1 partner 'zz' is not among"),
        ({"anchor": ["a"], "partner": [["b"]]}, r"partner must hold image ids, got 'list"),
        (
            {"anchor": ["a"], "partner": ["b"], "score": [float("inf")]},
            r"row 1 score must be a finite number",
        ),
        ({"anchor": ["a"], "partner": ["b"], "score": ["x"]}, r"score must hold numbers"),
        ({"anchor": ["a"]}, "must have one column 'partner'"),
    ],
)
def test_parquet_errors_name_the_row(
    five: Catalog, tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    with pytest.raises(UserError, match=message):
        listed(five, tmp_path / "list.parquet")


def test_files_that_are_no_lists_are_refused(five: Catalog, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be an existing file"):
        listed(five, tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="is not readable as CSV"):
        listed(five, tmp_path / "binary.csv")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="is not readable as Parquet"):
        listed(five, tmp_path / "cut.parquet")
    with pytest.raises(UserError, match=r"is no folder of pairs \(it has no pairs.json\)"):
        listed(five, tmp_path)


@given(st.text(max_size=80))
def test_whatever_a_list_holds_the_answer_is_one_line(text: str) -> None:
    import tempfile

    catalog = Catalog.from_columns(
        {
            "image_id": ["a", "b"], "file_hash": ["1", "2"], "uri": ["a", "b"], "source": ["s", "s"],
            "width": [1, 1], "height": [1, 1],
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "list.csv"
        file.write_bytes(("anchor,partner\n" + text).encode("utf-8", "surrogatepass"))
        with pytest.raises(UserError) as caught:
            listed(catalog, file)
    assert "\n" not in str(caught.value)


BAD = """anchor,partner,score
a,b,1
a,b
zz,b,1
b,c,high
c,c,1
b,a,1
a,d,1
a,e,1
c,d,0.5
zz,yy,
"""
SAID = [
    (3, "has 2 cells where the header has 3"),
    (4, "anchor 'zz' is not among the 5 images given, whose ids are such as 'a'"),
    (5, "score must be a finite number or empty, got 'high'"),
    (6, "pairs 'c' with itself"),
    (7, "repeats line 2 ('b', 'a'; the order in a pair does not count)"),
    (8, "pairs two copies of one picture, 'a' and 'd'"),
    (9, "pairs images of two splits, 'a' (train) and 'e' (test)"),
    (11, "anchor 'zz' is not among the 5 images given, whose ids are such as 'a'"),
]


def test_every_bad_row_can_be_seen(five: Catalog, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sempairs.cli.pairs import app

    file = tmp_path / "list.csv"
    file.write_text(BAD)
    found = check_list(file, ImageIndex(five))
    assert ([tuple(problem) for problem in found.problems], found.rows, found.unit) == (SAID, 10, "line")
    index = ImageIndex(five)
    good = [
        (index.ids[a], index.ids[b]) for a, b in zip(found.pairs.anchor, found.pairs.partner, strict=True)
    ]
    assert good == [("a", "b"), ("c", "d")]
    assert found.pairs.score.tolist() == [1, 0.5]
    message = r"line 3 has 2 cells .* \(and 7 more bad rows\); `sempairs pairs check` lists them all$"
    with pytest.raises(UserError, match=message):
        listed(five, file)
    five.save(tmp_path / "c.arrow")
    command = ["check", f"catalog:{tmp_path / 'c.arrow'}", str(file), "--split", "all"]
    result = CliRunner().invoke(app, command)
    assert result.stdout.splitlines() == [f"line {line}: {said}" for line, said in SAID]
    assert isinstance(result.exception, UserError) and "has 8 bad rows of 10" in str(result.exception)
    file.write_text("anchor,partner\na,b\n")
    assert "1 pairs, none of them bad" in CliRunner().invoke(app, command).stdout


def test_every_bad_row_of_a_parquet_list_can_be_seen(five: Catalog, tmp_path: Path) -> None:
    columns = {
        "anchor": ["a", None, "a", None, "c"],
        "partner": ["b", "b", None, None, "c"],
        "score": [float("nan"), 1, 2, 3, float("inf")],
    }
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    found = check_list(tmp_path / "list.parquet", ImageIndex(five))
    assert [tuple(problem) for problem in found.problems] == [
        (1, "score must be a finite number, got nan"),
        (2, "has no anchor"),
        (3, "has no partner"),
        (4, "has no anchor"),
        (5, "score must be a finite number, got inf"),
    ]
    assert found.rows == 5 and not len(found.pairs.anchor)


@pytest.fixture
def pictures(make: Any) -> Catalog:
    uris = ["cat/1.png", "cat/2.png", "cafe\u0301/3.png", "dog/1.png"]
    return make([f"d/{uri}" for uri in uris], uri=uris, source=["folder:/data/d"] * 4, split=["train"] * 4)


@pytest.mark.parametrize(
    ("anchor", "partner"),
    [
        ("d/cat/1.png", "d/cafe\u0301/3.png"),
        ("cat/1.png", "caf\u00e9/3.png"),
        ("cat\\1.png", "d\\caf\u00e9\\3.png"),
        ("./cat/1.png", "/data/d/caf\u00e9/3.png"),
        (" d/cat/1.png", "data/d/cafe\u0301/3.png"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_images_by_their_paths(
    pictures: Catalog, tmp_path: Path, anchor: str, partner: str, encoding: str
) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"Anchor;Partner\n{anchor};{partner}\n", encoding=encoding)
    assert ids(listed(pictures, file)) == [("d/cat/1.png", "d/cafe\u0301/3.png")]
    pq.write_table(pa.table({"anchor": [anchor], "partner": [partner]}), tmp_path / "list.parquet")
    assert ids(listed(pictures, tmp_path / "list.parquet")) == [("d/cat/1.png", "d/cafe\u0301/3.png")]


def test_one_pair_under_two_names_is_there_twice(pictures: Catalog, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("anchor,partner\nd/cat/1.png,d/cat/2.png\ncat/2.png,cat/1.png\n")
    with pytest.raises(UserError, match=r"line 3 repeats line 2 \('cat/2.png', 'cat/1.png'"):
        listed(pictures, tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "cat/1.PNG",
            "is not among the 4 images given (all of the split train); did you mean 'd/cat/1.png'?",
        ),
        ("1.png", "did you mean 'd/"),
        ("e/dog/1.png", "did you mean 'd/dog/1.png'?"),
        ("?", "whose ids are such as"),
    ],
)
def test_a_name_of_no_image_shows_what_ids_look_like(
    pictures: Catalog, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "list.csv").write_text(f"anchor,partner\n{name},d/cat/2.png\n")
    problems = check_list(tmp_path / "list.csv", ImageIndex(pictures)).problems
    assert len(problems) == 1
    assert said in problems[0].said


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_ids_in_any_type_of_text(five: Catalog, tmp_path: Path, kind: pa.DataType) -> None:
    columns = {"anchor": pa.array(["a", "b"]).cast(kind), "partner": pa.array(["b", "c"]).cast(kind)}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    assert ids(listed(five, tmp_path / "list.parquet")) == [("a", "b"), ("b", "c")]
