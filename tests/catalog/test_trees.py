"""Categories as paths in WordNet or in a CSV file, and sibling pairs from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.catalog.trees import apply_tree, collapsed, tree_paths
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import PairSet

WriteWordnet = Callable[..., dict[str, str]]


def catalog_of(categories: Sequence[str | None]) -> Catalog:
    n = len(categories)
    return Catalog.from_columns(
        {
            "image_id": [f"{i:03d}" for i in range(n)],
            "file_hash": [f"{i:064x}" for i in range(n)],
            "uri": [f"{i}.png" for i in range(n)],
            "width": [4] * n,
            "height": [4] * n,
            "source": ["folder:/x"] * n,
            "category": categories,
        }
    )


class TestWordnet:
    def test_categories_become_paths(self, tmp_path: Path, write_wordnet: WriteWordnet) -> None:
        ids = write_wordnet(tmp_path)
        catalog = catalog_of([ids["pug"], None, ids["tench"], f"{ids['pug']}-pug"])
        found = apply_tree(catalog, f"wordnet:{tmp_path}")
        paths = found.column("category").tolist()
        assert paths[0] == paths[3]
        assert paths[1] is None
        assert paths[0].startswith(f"entity.{ids['entity']}/animal.{ids['animal']}/vertebrate.")
        assert paths[2].endswith(f"/fish.{ids['fish']}/tench.{ids['tench']}")
        assert found.with_column("category", catalog.column("category")) == catalog
        # Once more changes nothing.
        assert apply_tree(found, f"wordnet:{tmp_path}") == found

    def test_other_names(self, tmp_path: Path, write_wordnet: WriteWordnet) -> None:
        write_wordnet(tmp_path)
        with pytest.raises(UserError, match=r"needs categories that are synsets, .* got 'cat'"):
            apply_tree(catalog_of(["cat"]), f"wordnet:{tmp_path}")
        with pytest.raises(UserError, match="needs images with a category"):
            apply_tree(catalog_of([None]), f"wordnet:{tmp_path}")

    def test_siblings_share_the_nearest_hypernym(self, tmp_path: Path, write_wordnet: WriteWordnet) -> None:
        """Two breeds under one parent; a dog is a leaf and an inner node; the tench sits on a chain."""
        ids = write_wordnet(tmp_path)
        classes = [ids[word] for word in ("pug", "Chihuahua", "dog", "wolf", "tench") for _ in range(4)]
        catalog = catalog_of(classes)

        def pairs(depth: int, collapse: bool) -> set[frozenset[str]]:
            tree = apply_tree(catalog, f"wordnet:{tmp_path}", collapse=collapse)
            table = PairSet.build(tree, PairsConfig(relation="sibling", depth=depth)).table
            leaf = dict(zip(tree.column("image_id"), tree.column("category"), strict=True))
            sides = zip(table["anchor"].to_pylist(), table["partner"].to_pylist(), strict=True)
            return {frozenset(leaf[i].rpartition("/")[2].partition(".")[0] for i in both) for both in sides}

        assert pairs(1, False) == {frozenset({"pug", "Chihuahua"}), frozenset({"dog", "wolf"})}
        assert pairs(1, True) == {frozenset({"pug", "Chihuahua"}), frozenset({"dog", "wolf"})}
        # Of the chain over the tench nothing is left: it lies beside the canines, who are one level deeper.
        short = apply_tree(catalog, f"wordnet:{tmp_path}", collapse=True).column("category")
        assert short[16].count("/") == 1
        assert short[16].startswith("vertebrate.")
        assert short[0] == "/".join(
            f"{word}.{ids[word]}" for word in ("vertebrate", "canine", "dog", "toy_dog", "pug")
        )


class TestCollapsed:
    def test_an_example(self) -> None:
        assert collapsed(["a/b/c/x", "a/b/c/y", "a/d/e/z"]) == {
            "a/b/c/x": "a/c/x",
            "a/b/c/y": "a/c/y",
            "a/d/e/z": "a/z",
        }

    def test_a_class_stays(self) -> None:
        assert collapsed(["a/b", "a/b/c/d"]) == {"a/b": "b", "a/b/c/d": "b/d"}
        assert collapsed(["a/b/c"]) == {"a/b/c": "c"}

    def test_equal_names_keep_their_chains(self) -> None:
        assert collapsed(["a/b/x", "a/c/x", "a/y"]) == {"a/b/x": "a/b/x", "a/c/x": "a/c/x", "a/y": "a/y"}

    @settings(max_examples=200, deadline=None)
    @given(
        st.sets(
            st.lists(st.sampled_from("abcd"), min_size=1, max_size=6).map("/".join), min_size=1, max_size=12
        )
    )
    def test_properties(self, paths: set[str]) -> None:
        short = collapsed(paths)
        assert set(short) == paths
        assert len(set(short.values())) == len(paths)  # no two become one
        for path in paths:
            assert short[path].split("/")[-1] == path.split("/")[-1]
            rest = iter(path.split("/"))  # a subsequence
            assert all(part in rest for part in short[path].split("/"))
            for other in paths:  # who lies under whom stays
                assert path.startswith(f"{other}/") == short[path].startswith(f"{short[other]}/")

    @settings(max_examples=100, deadline=None)
    @given(st.sets(st.text("abc", min_size=1, max_size=6), min_size=2, max_size=10))
    def test_every_category_left_divides_classes(self, words: set[str]) -> None:
        """With names that are unique, as WordNet's are: each node above a class branches, or is one."""
        paths = {"/".join(word[:end] for end in range(1, len(word) + 1)) for word in words}
        short = set(collapsed(paths).values())
        inner = {path.rsplit("/", up)[0] for path in short for up in range(1, path.count("/") + 1)}
        for node in inner - short:
            below = {path[len(node) + 1 :].split("/")[0] for path in short if path.startswith(f"{node}/")}
            assert len(below) >= 2


class TestCsv:
    def write(self, tmp_path: Path, text: str) -> str:
        (tmp_path / "tree.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
        return str(tmp_path / "tree.csv")

    def test_paths(self, tmp_path: Path) -> None:
        tree = self.write(tmp_path, "\ufeffpath,category\n animal/cat , cat\n\nplant/oak,oak\n")
        assert apply_tree(catalog_of(["oak", "cat", None]), tree).column("category").tolist() == [
            "plant/oak",
            "animal/cat",
            None,
        ]

    def test_parents(self, tmp_path: Path) -> None:
        tree = self.write(tmp_path, 'category,parent\ncat,mammal\nmammal,animal\noak,\n"a, b",cat\n')
        assert tree_paths(["cat", "oak", "a, b", "mammal"], tree) == {
            "cat": "animal/mammal/cat",
            "oak": "oak",
            "a, b": "animal/mammal/cat/a, b",
            "mammal": "animal/mammal",
        }

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("category,path\ncat,a/cat\ncat,b/cat\n", r"line 3 names a category again \(line 2\), got 'cat'"),
            ("category,path\ncat,a\ndog,a\n", r"line 3 gives the path of line 2 again, got 'a'"),
            ("category,path\ncat,a//b\n", "line 2 path must be names"),
            ("category,path\ncat,\n", "line 2 path must be names"),
            ("category,path\ncat\n", "line 2 must have two cells, got 1"),
            ("category,path\ncat,a,b\n", "line 2 must have two cells, got 3"),
            ("category,path\n,a\n", "line 2 names no category"),
            ("category,path\ncat,a\x1b[31m\n", "line 2 must be printable UTF-8"),
            ("category,path\ncat,a\udcff\n", "line 2 must be printable UTF-8"),
            ("category,parent\ncat,dog\ndog,cat\n", "line 2 makes a category lie above itself, got 'cat'"),
            ("category,parent\nx,cat\ncat,cat\n", "line 3 makes a category lie above itself, got 'cat'"),
            ("category,parent\ncat,a/b\n", "line 2 must not have / in a name"),
            ("category,parent\ncat,a\ncat,b\n", "line 3 names a category again"),
            ("category\ncat\n", "must have the columns category,path or category,parent"),
            ("category,path,parent\n", "must have the columns"),
            ("", "must have the columns"),
            ('category,path\n"cat,a\n', "is not readable as CSV"),
            (
                "category,path\ncats,a/cats\n",
                r"every category .*\(1 are missing\), got 'cat'; did you mean 'cats'",
            ),
            ("category,path\n", r"every category .*got 'cat'; add a line"),
        ],
    )
    def test_mistakes_name_the_line(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            apply_tree(catalog_of(["cat"]), self.write(tmp_path, text))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("spec", ["wordnett", "absent.csv", "", "tree.txt"])
    def test_no_such_tree(self, spec: str) -> None:
        with pytest.raises(
            UserError, match=r"data.tree must be wordnet, wordnet:PATH or an existing CSV file"
        ):
            apply_tree(catalog_of(["cat"]), spec)

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("abcdefghxy"), min_size=1))
    def test_parents_as_an_independent_walk_has_it(self, tmp_path: Path, parent: dict[str, str]) -> None:
        def walk(name: str) -> list[str] | None:
            way = [name]
            while (above := parent.get(way[-1])) is not None:
                if above in way:
                    return None
                way.append(above)
            return way[::-1]

        tree = self.write(tmp_path, "category,parent\n" + "".join(f"{a},{b}\n" for a, b in parent.items()))
        expected = {name: walk(name) for name in parent}
        if None in expected.values():
            with pytest.raises(UserError, match="above itself"):
                tree_paths(parent, tree)
        else:
            assert tree_paths(parent, tree) == {n: "/".join(way or []) for n, way in expected.items()}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_trees_of_other_encodings_and_unicode_forms(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "tree.csv").write_text(
        "category;path\ncafe\u0301;drink/cafe\u0301\ntea;drink/tea\n", encoding
    )
    found = apply_tree(catalog_of(["caf\u00e9", "tea"]), str(tmp_path / "tree.csv"))
    assert found.column("category").tolist() == ["drink/caf\u00e9", "drink/tea"]
