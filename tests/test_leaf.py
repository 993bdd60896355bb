"""Errors, registry, files and config: the small modules everything stands on."""

from __future__ import annotations

import codecs
import csv
import json
import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempairs.config import Config, Duration, Ramp, load_config, save_config, validate
from sempairs.errors import UserError, nearest, unknown
from sempairs.files import (
    atomic_folder,
    atomic_write,
    folder_lock,
    read_json,
    resolve_inside,
    write_json,
    writing_in,
)
from sempairs.progress import tell
from sempairs.registry import Registry
from sempairs.texts import decode_text, read_rows, read_text


class Inner(Config):
    temperature: float = 0.2


class Recipe(Config):
    seed: int = 0
    duration: Duration = Duration(1, "epochs")
    method: Inner = Inner()


def test_an_error_is_one_line_with_field_rule_value_and_remedy():
    error = UserError("pairs.mixed", "must be in\n[0, 1]", 1.7, "give a fraction")
    assert str(error) == "pairs.mixed must be in [0, 1], got 1.7; give a fraction"


def test_nearest_suggests_only_what_is_near():
    assert nearest("simclr2", ["simclr", "byol"]) == "simclr"
    assert nearest("zzz", ["simclr", "byol"]) == ""


def test_registry_refuses_a_second_entry_and_suggests_on_a_wrong_name():
    class Entry:
        name = "simclr"

    registry: Registry[type] = Registry("method")
    assert registry.register(Entry) is Entry
    assert registry.get("simclr") is Entry
    with pytest.raises(ValueError, match="registered already"):
        registry.register(Entry)
    with pytest.raises(ValueError, match="must state its name"):
        registry.register(object)
    with pytest.raises(UserError, match=r"method is unknown, got 'simcrl'; did you mean 'simclr'\?"):
        registry.get("simcrl")


def test_of_many_choices_near_ones_only_are_listed():
    names = [f"{a}{b}" for a in ("resnet", "vit", "swin") for b in range(40)]
    line = str(unknown("encoder.arch", "resnet2O", names))
    assert "did you mean 'resnet" in line and "choose from" not in line and "vit" not in line
    assert len(line) < 200
    assert str(unknown("encoder.arch", "qqq", names)).endswith("none of 120 is like it")
    assert "choose from: a, b" in str(unknown("x", "c", ["a", "b"]))


def test_atomic_write_leaves_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1})
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"b": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_atomic_write_takes_the_longest_name(tmp_path):
    with atomic_write(tmp_path / ("n" * 255)) as temporary:
        temporary.write_text("x")
    assert (tmp_path / ("n" * 255)).read_text() == "x"


def test_atomic_folder_appears_whole_and_refuses_a_full_one(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "half").write_text("x")
        raise RuntimeError
    assert not target.exists()
    with atomic_folder(target) as temporary:
        (temporary / "whole").write_text("x")
    assert (target / "whole").read_text() == "x"
    with pytest.raises(UserError, match="must be a new or empty folder"), atomic_folder(target):
        pass
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("left", ["a file in it", "a file in its place", "an empty folder"])
def test_of_two_that_write_a_folder_the_first_to_finish_has_it(tmp_path, left):
    target = tmp_path / "out"
    lines = []
    try:
        with atomic_folder(target) as mine:
            (mine / "x").write_text("mine")
            if left == "a file in its place":
                target.write_text("theirs")
            else:
                target.mkdir()
                if left == "a file in it":
                    (target / "x").write_text("theirs")
    except UserError as error:
        lines = [str(error)]
    if left == "an empty folder":
        assert (target / "x").read_text() == "mine"
        assert lines == []
    else:
        assert "another command has written to it meanwhile" in lines[0]
        assert (target if target.is_file() else target / "x").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def _write_two(folder, count):
    for _ in range(count):
        with writing_in(folder):
            for name in ("a", "b"):
                (folder / name).write_text(f"{os.getpid()}")
            assert (folder / "a").read_text() == (folder / "b").read_text()


def test_files_that_belong_together_are_written_by_one_command_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_two, args=(tmp_path, 200)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]


def test_what_is_told_is_told_once(capsys):
    for _ in range(2):
        tell("a line about\nnothing else")
    assert capsys.readouterr().err == "note: a line about nothing else\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_texts_in_the_encoding_that_their_mark_says(tmp_path, encoding):
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    file = tmp_path / "list"
    file.write_bytes(mark + "café\n\ufeffb\r\n".encode(encoding))
    assert read_text(file) == "café\nb\n"
    file.write_bytes(mark + json.dumps({"a": "é"}, ensure_ascii=False).encode(encoding))
    assert read_json(file) == {"a": "é"}
    file.write_bytes(mark + "seed: 3\n".encode(encoding))
    assert load_config(Recipe, file).seed == 3


def test_half_a_character_is_said_in_one_line(tmp_path):
    (tmp_path / "half").write_bytes("{}".encode("utf-16")[:-1])
    with pytest.raises(UserError, match="is not readable JSON") as json_error:
        read_json(tmp_path / "half")
    with pytest.raises(UserError, match="is not a text file") as recipe_error:
        load_config(Recipe, tmp_path / "half")
    assert "\n" not in f"{json_error.value}{recipe_error.value}"


@pytest.mark.parametrize("divider", [",", ";", "\t"])
def test_rows_of_a_table(tmp_path, divider):
    file = tmp_path / "table"
    lines = [" a , b ", '"x', 'y",1', "", "\ufeffz,2"]
    file.write_text("\ufeff" + "\n".join(line.replace(",", divider) for line in lines), encoding="utf-8")
    assert [tuple(row) for row in read_rows(file)] == [
        (1, 1, ["a", "b"]),
        (2, 3, ["x\ny", "1"]),
        (5, 5, ["z", "2"]),
    ]
    file.write_text(f'sep={divider}\na{divider}b\n"x')
    with pytest.raises(csv.Error, match=r"at line 3: "):
        list(read_rows(file))
    file.write_text("")
    assert list(read_rows(file)) == []


def test_unreadable_json_is_one_line(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_bytes(b"\xff\x00{")
    with pytest.raises(UserError, match="is not readable JSON"):
        read_json(tmp_path / "bad.json")


def _try_lock(folder, queue):
    try:
        with folder_lock(folder):
            queue.put("held")
    except UserError as error:
        queue.put(str(error))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_text_of_any_tool_is_read_by_its_mark(tmp_path, encoding):
    marks = {"utf-16-le": "utf-16", "utf-16-be": "utf-16", "utf-32-le": "utf-32", "utf-32-be": "utf-32"}
    text = ("\ufeff" if encoding in marks else "") + '{"größe": "猫"}\r\n'
    assert decode_text(text.encode(encoding)) == '{"größe": "猫"}\r\n'
    (tmp_path / "any.json").write_bytes(text.encode(encoding))
    assert read_json(tmp_path / "any.json") == {"größe": "猫"}


def test_text_that_is_not_what_its_mark_says():
    for data in (b"\xff", b"\xff\xfea", "ö".encode("latin-1")):
        with pytest.raises(UnicodeDecodeError):
            decode_text(data)
    assert decode_text(b"\xefa", errors="surrogateescape") == "\udcefa"
    assert decode_text(b"") == ""


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5_000, "", "{'a': 1}"])
def test_json_that_no_reader_takes_is_one_line(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match="is not readable JSON") as caught:
        read_json(tmp_path / "bad.json")
    assert "\n" not in str(caught.value)


def test_a_folder_is_locked_against_another_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with folder_lock(tmp_path):
        process = context.Process(target=_try_lock, args=(tmp_path, queue))
        process.start()
        assert "is in use by another process" in queue.get(timeout=60)
        process.join()
    with folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("hostile", ["../x", "/etc/passwd", "a/../../x", "link/x", "nul\0"])
def test_paths_in_lists_stay_in_their_root(tmp_path, hostile):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="path"):
        resolve_inside(root, hostile)


def test_a_link_loop_is_an_error_not_a_hang(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError):
        resolve_inside(tmp_path, "loop/x")


@pytest.mark.parametrize(
    ("text", "overrides", "line"),
    [
        (
            "method: {temprature: 1}",
            [],
            "r.yaml: method.temprature is not a known key; did you mean 'temperature'",
        ),
        ("seed: x", [], "r.yaml: seed must be a valid integer"),
        ("duration: 100", [], "duration must be a length with its unit"),
        ("- a", [], "recipe must be a mapping"),
        ("a: [", [], "recipe is not YAML"),
        ("seed: 1", ["seed"], "--set must be key=value"),
        ("seed: 1", [".seed=2"], "--set must be key=value"),
        ("seed: 1", ["seed.x=1"], "must name a key inside sections"),
        ("seed: 1", ["method.temperature=.inf"], "method.temperature must be a finite number"),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path, text, overrides, line):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(Recipe, path, overrides)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_binary_or_missing_recipe_is_one_line(tmp_path):
    (tmp_path / "b.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="recipe is not a text file"):
        load_config(Recipe, tmp_path / "b.yaml")
    with pytest.raises(UserError, match="recipe does not exist"):
        load_config(Recipe, tmp_path / "none.yaml")


@given(seed=st.integers(0, 9), temperature=st.floats(0.01, 9), epochs=st.integers(1, 9))
def test_a_saved_recipe_loads_equal(tmp_path_factory, seed, temperature, epochs):
    recipe = validate(
        Recipe, {"seed": seed, "method": {"temperature": temperature}, "duration": f"{epochs} epochs"}
    )
    path = tmp_path_factory.mktemp("r") / "r.yaml"
    save_config(recipe, path)
    assert load_config(Recipe, path) == recipe
    assert json.loads(recipe.model_dump_json())["duration"] == f"{epochs} epochs"


def test_overrides_set_nested_values(tmp_path):
    (tmp_path / "r.yaml").write_text("seed: 1")
    recipe = load_config(Recipe, tmp_path / "r.yaml", ["method.temperature=0.5", "duration=20 steps"])
    assert recipe.method.temperature == 0.5
    assert recipe.duration.steps(7) == 20
    assert Duration.parse("1.5 epochs").steps(10) == 15


class Ramped(Config):
    weight: Ramp = Ramp(((0.0, 0.5),))


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (0.5, {0.0: 0.5, 1.0: 0.5}),
        (1, {0.3: 1.0}),
        ([[0, 0], [0.5, 1]], {0.0: 0.0, 0.25: 0.5, 0.5: 1.0, 0.9: 1.0}),
        ([[0.2, 1], [0.6, 0]], {0.0: 1.0, 0.2: 1.0, 0.5: 0.25, 0.6: 0.0, 1.0: 0.0}),
        ([[0.5, 0], [0.5, 1]], {0.0: 0.0, 0.4999: 0.0, 0.5: 1.0, 1.0: 1.0}),
        ([[0, 0], [0.4, 0.2], [0.4, 0.8], [0.8, 1]], {0.2: 0.1, 0.4: 0.8, 0.6: 0.9, 1.0: 1.0}),
    ],
)
def test_a_ramp_goes_through_its_points(value, at):
    ramp = validate(Ramped, {"weight": value}).weight
    assert {progress: ramp.at(progress) for progress in at} == pytest.approx(at)
    assert validate(Ramped, validate(Ramped, {"weight": value}).model_dump(mode="json")).weight == ramp
    assert Ramped.model_validate_json(Ramped(weight=ramp).model_dump_json()).weight == ramp


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("half", "must be a number, or points of progress and value"),
        (True, "must be a number, or points"),
        ([], "must be a number, or points"),
        ([0, 1], "must be a number, or points"),
        ([[0, 0, 0]], "must be a number, or points"),
        ([[0, "a"]], "must be a number, or points"),
        ([[0.5, 0], [0.2, 1]], "must have points in order of progress"),
        ([[0, 0], [1.5, 1]], "must have points in order of progress, from 0 to 1"),
        ([[0.5, 0], [0.5, 1], [0.5, 2]], "must have at most two points at one progress"),
        (float("nan"), "must be a number, or points"),
    ],
)
def test_a_ramp_that_is_none_is_refused_in_one_line(value, says):
    with pytest.raises(UserError, match=says):
        validate(Ramped, {"weight": value})


def test_a_ramp_is_saved_as_it_is_written(tmp_path):
    for value in (0.25, [[0.0, 0.0], [0.5, 1.0]]):
        config = validate(Ramped, {"weight": value})
        save_config(config, tmp_path / "r.yaml")
        assert load_config(Ramped, tmp_path / "r.yaml") == config
        assert config.model_dump(mode="json")["weight"] == value
    overridden = load_config(Ramped, tmp_path / "r.yaml", ["weight=[[0, 1], [1, 0]]"])
    assert overridden.weight.at(0.25) == 0.75
