"""Whole evaluations of small encoders on small data, through the real code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.encoders import EncoderConfig, build_encoder, load_encoder, save_encoder
from sempairs.errors import UserError
from sempairs.evaluation import EvaluationConfig, evaluate, evaluate_random, read_results
from sempairs.evaluation import features as frozen
from sempairs.evaluation.export import export_features
from sempairs.evaluation.target import open_target

Emoji = tuple[str, Catalog]
QUICK = EncoderConfig(arch="tiny-resnet", options={"channels": [8, 8, 8, 8]})
SHORT = EvaluationConfig(lambdas=(0.1, 10.0), repeats=1, precision="float32")
EMOJI_TASKS = ("emoji-subgroup", "emoji-subgroup-held-out", "emoji-retrieval")


@pytest.fixture(autouse=True)
def _at_home(emoji: Emoji, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sempairs.evaluation.tasks.emoji.SOURCE", emoji[0])


@pytest.fixture
def run(encoder: Path, tmp_path: Path) -> Path:
    """A finished run folder whose pretraining saw nothing."""
    folder = tmp_path / "run-7"
    shutil.copytree(encoder, folder)
    (folder / "recipe.yaml").write_text("data:\n  source: folder:gone\n")
    (folder / "finished.json").write_text("{}")
    expose(folder, [])
    return folder


def expose(folder: Path, rows: list[dict[str, Any]]) -> None:
    names = ("image_id", "file_hash", "pixel_hash", "split_group")
    schema = pa.schema([(name, pa.string()) for name in names])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "exposure.parquet")


def exposed(catalog: Catalog, row: int, **changes: Any) -> dict[str, Any]:
    names = ("image_id", "file_hash", "pixel_hash", "split_group")
    return {name: catalog.column(name)[row] for name in names} | changes


def test_every_task_gives_its_numbers_and_one_primary(encoder: Path, drawings: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    tasks = [*EMOJI_TASKS, f"folder:{drawings}", f"stamps:{drawings}"]
    results = evaluate(encoder, tasks, out, config=SHORT)
    assert read_results(out) == results
    assert [r.task for r in results if r.primary] == tasks
    for task in tasks:
        found = {(r.protocol, r.metric) for r in results if r.task == task}
        if task == "emoji-retrieval":
            assert found == {("retrieval-1", "top_1"), ("retrieval-1", "mean_average_precision")}
        else:
            assert found == {
                ("linear-1", "accuracy"), ("linear-1", "mean_per_class_accuracy"),
                ("knn-20-0.07", "accuracy"), ("knn-200-0.1", "accuracy"),
            }  # fmt: skip
    for result in results:
        assert 0 <= result.value <= 1
        assert result.run == "quick"
        assert result.selection.startswith("weights: as given; ")
        assert result.extra["encoder"] == load_encoder(encoder).spec.weight_hash
        assert result.extra["leakage"].startswith("not checked")
        assert json.loads(result.to_json()) == json.loads(json.dumps(dict(vars(result))))
    one = results[0]
    assert (one.n, one.extra["classes"], one.extra["fit_images"], one.extra["validation_images"]) == (
        18,
        3,
        36,
        18,
    )


def test_the_same_call_gives_the_same_rows(encoder: Path, tmp_path: Path) -> None:
    first, second = (evaluate(encoder, EMOJI_TASKS[:1], config=SHORT) for _ in range(2))
    assert first == second


def test_features_that_tell_the_categories_score_high_and_blind_ones_do_not(
    emoji: Emoji, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of an encoder's features: the truth, then noise. The rest is the real path."""
    category = dict(zip(emoji[1].column("image_id"), emoji[1].column("category"), strict=True))
    concept = dict(zip(emoji[1].column("image_id"), emoji[1].column("concept"), strict=True))

    def write(folder: Path, noise: float) -> dict[str, float]:
        rng = np.random.default_rng(0)

        def truth(target: Any, source: Any, catalog: Catalog, **settings: Any) -> np.ndarray:
            ids = catalog.column("image_id")
            classes, concepts = sorted(set(category.values())), sorted(set(concept.values()))
            values = np.zeros((len(ids), len(classes) + len(concepts)))
            values[np.arange(len(ids)), [classes.index(category[i]) for i in ids]] = 1
            values[np.arange(len(ids)), [len(classes) + concepts.index(concept[i]) for i in ids]] = 0.5
            return np.asarray(values * (1 - noise) + noise * rng.normal(size=values.shape), dtype=np.float32)

        monkeypatch.setattr(frozen, "compute_features", truth)
        found = evaluate("random:tiny-resnet", EMOJI_TASKS, config=SHORT)
        return {r.task: r.value for r in found if r.primary}

    assert write(tmp_path, 0.0) == dict.fromkeys(EMOJI_TASKS, 1.0)
    blind = write(tmp_path, 1.0)
    assert blind["emoji-subgroup"] < 0.8
    assert blind["emoji-retrieval"] < 0.6


def test_settings_hash_follows_the_settings_and_nothing_else(
    encoder: Path, drawings: Path, tmp_path: Path
) -> None:
    def hashes(name: str, **changes: Any) -> dict[tuple[str, str], str]:
        config = SHORT.model_copy(update=changes)
        return {(r.protocol, r.metric): r.settings_hash for r in evaluate(encoder, [name], config=config)}

    moved = tmp_path / "elsewhere"
    shutil.copytree(drawings, moved)
    plain = hashes(f"folder:{drawings}")
    assert hashes(f"folder:{moved}") == plain
    assert len(set(plain.values())) == 4
    for change in ({"seed": 1}, {"max_fit_images": 20}, {"precision": "bf16"}, {"folds": 4}):
        assert not set(hashes(f"folder:{drawings}", **change).values()) & set(plain.values())
    other = hashes(f"folder:{drawings}", lambdas=(1.0,))
    assert other["linear-1", "accuracy"] != plain["linear-1", "accuracy"]
    assert other["knn-20-0.07", "accuracy"] == plain["knn-20-0.07", "accuracy"]


def test_settings_hash_follows_the_encoders_input(encoder: Path, drawings: Path, tmp_path: Path) -> None:
    """The same weights score otherwise at another size or with other means, so it is another setting."""
    loaded = load_encoder(encoder)
    inputs = {
        "same": (loaded.spec.input_size, loaded.spec.mean, loaded.spec.std),
        "size": (24, loaded.spec.mean, loaded.spec.std),
        "mean": (loaded.spec.input_size, (0.4, 0.5, 0.5), loaded.spec.std),
        "std": (loaded.spec.input_size, loaded.spec.mean, (0.5, 0.5, 0.4)),
    }
    hashes = set()
    for name, (size, mean, std) in inputs.items():
        save_encoder(tmp_path / name, loaded, loaded.config, size, mean, std)
        found = evaluate(tmp_path / name, [f"folder:{drawings}"], protocols=["knn-20-0.07"], config=SHORT)
        hashes.add(found[0].settings_hash)
        assert found[0].extra["encoder"] == loaded.spec.weight_hash
    assert len(hashes) == 4
    plain = evaluate(encoder, [f"folder:{drawings}"], protocols=["knn-20-0.07"], config=SHORT)
    assert plain[0].settings_hash in hashes


def test_data_hash_says_whether_the_images_are_the_same(
    encoder: Path, drawings: Path, tmp_path: Path
) -> None:
    moved = tmp_path / drawings.name
    shutil.copytree(drawings, moved)
    one, two = (evaluate(encoder, [f"folder:{d}"], config=SHORT)[0] for d in (drawings, moved))
    assert one.extra["data"] == two.extra["data"]
    assert one.value == two.value
    next(moved.rglob("*.png")).unlink()
    assert evaluate(encoder, [f"folder:{moved}"], config=SHORT)[0].extra["data"] != one.extra["data"]


# Pixels and features ------------------------------------------------------------------------------


def test_features_are_the_encoders_of_the_picture_on_white(encoder: Path, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 16, 16, 4), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture, "RGBA").save(folder / f"{i}.png")
    source = open_source(f"folder:{folder}")
    found = frozen.compute_features(open_target(encoder), source, source.scan().catalog)
    alpha = pixels[..., 3:] / 255
    white = (pixels[..., :3] * alpha + 255 * (1 - alpha)) / 255
    batch = torch.from_numpy((white - 0.5) / 0.5).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = load_encoder(encoder)(batch).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(expected).max())


def test_tasks_of_one_source_share_features_and_a_cache_saves_both(
    encoder: Path, emoji: Emoji, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    fresh = evaluate(encoder, EMOJI_TASKS, config=SHORT)
    first = evaluate(encoder, EMOJI_TASKS, config=SHORT, cache=cache)
    assert len(list(cache.glob("features-*.npz"))) == len(list(cache.glob("scored-*"))) == 1

    def never(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("embedded again")

    monkeypatch.setattr(frozen, "embed", never)
    assert evaluate(encoder, EMOJI_TASKS, config=SHORT, cache=cache) == first == fresh
    with pytest.raises(AssertionError, match="embedded again"):
        evaluate("random:tiny-resnet@16", EMOJI_TASKS, config=SHORT, cache=cache)
    assert len(list(cache.glob("scored-*"))) == 1  # pixels depend on images and size alone
    with pytest.raises(AssertionError, match="embedded again"):
        evaluate(encoder, EMOJI_TASKS, config=SHORT.model_copy(update={"precision": "bf16"}), cache=cache)
    (kept,) = cache.glob("features-*.npz")
    kept.write_bytes(b"nothing")
    with pytest.raises(UserError, match="remove it"):
        evaluate(encoder, EMOJI_TASKS, config=SHORT, cache=cache)


def test_images_are_embedded_part_by_part_to_the_same_features(
    encoder: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(f"folder:{drawings}")
    catalog = source.scan().catalog
    whole = frozen.compute_features(open_target(encoder), source, catalog)
    held = []
    build = frozen.PixelStore.build

    def counted(source: Any, catalog: Catalog, *arguments: Any, **options: Any) -> Any:
        held.append(len(catalog))
        return build(source, catalog, *arguments, **options)

    monkeypatch.setattr(frozen.PixelStore, "build", counted)
    monkeypatch.setattr(frozen, "PART", 20 * 3 * load_encoder(encoder).spec.input_size ** 2)
    parts = frozen.compute_features(open_target(encoder), source, catalog, batch=7)
    assert held == [14] * 7 + [10]  # whole batches, no more than PART
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)


def test_bf16_is_near_float32(encoder: Path, drawings: Path) -> None:
    source = open_source(f"folder:{drawings}")
    catalog = source.scan().catalog.select(np.arange(8))
    plain = frozen.compute_features(open_target(encoder), source, catalog)
    quick = frozen.compute_features(open_target(encoder), source, catalog, precision="bf16")
    assert quick.dtype == np.float32
    assert not np.array_equal(quick, plain)
    np.testing.assert_allclose(quick, plain, atol=0.05 * np.abs(plain).max())


def test_a_diverged_encoder_and_an_unreadable_image_are_named(drawings: Path, tmp_path: Path) -> None:
    encoder = build_encoder(QUICK, seed=0)
    with torch.no_grad():
        next(iter(encoder.parameters())).fill_(float("nan"))
    save_encoder(tmp_path / "bad", encoder, QUICK, 16, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError, match="encoder bad gives features that are not finite for 108 images"):
        evaluate(tmp_path / "bad", [f"folder:{drawings}"], config=SHORT)


def test_export_writes_one_row_an_image(encoder: Path, drawings: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    assert export_features(encoder, f"folder:{drawings}", out) == (108, 8)
    table = pq.read_table(out)
    assert table.column_names == ["image_id", "file_hash", "features"]
    source = open_source(f"folder:{drawings}")
    catalog = source.scan().catalog
    assert table.column("image_id").to_pylist() == catalog.column("image_id").tolist()
    expected = frozen.compute_features(open_target(encoder), source, catalog)
    np.testing.assert_array_equal(np.stack(table.column("features").to_pylist()).astype(np.float32), expected)
    assert table.schema.metadata[b"sempairs.encoder"].decode() == load_encoder(encoder).spec.weight_hash
    with pytest.raises(UserError, match="--split must be one of none"):
        export_features(encoder, f"folder:{drawings}", out, split="test")


def test_export_of_a_split(encoder: Path, emoji: Emoji, tmp_path: Path) -> None:
    rows, _ = export_features(encoder, emoji[0], tmp_path / "f.parquet", split="test")
    assert rows == int((emoji[1].column("split") == "test").sum())


# What is evaluated --------------------------------------------------------------------------------


def test_the_floor_is_the_encoder_a_run_starts_from(tmp_path: Path) -> None:
    save_encoder(tmp_path / "start", build_encoder(QUICK, seed=3), QUICK, 16, (0.5,) * 3, (0.5,) * 3)
    stored = evaluate(tmp_path / "start", EMOJI_TASKS, config=SHORT)
    settings: dict[str, Any] = {"size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3, "config": SHORT}
    floor = evaluate_random(QUICK, 3, EMOJI_TASKS, tmp_path / "r.jsonl", name="floor", **settings)
    assert [r.value for r in floor] == [r.value for r in stored]
    assert {r.run for r in read_results(tmp_path / "r.jsonl")} == {"floor"}
    assert all(r.selection.startswith("weights: untrained") for r in floor)
    assert evaluate_random(QUICK, 4, EMOJI_TASKS, **settings)[0].extra["encoder"] != floor[0].extra["encoder"]


def test_random_names_an_architecture_a_size_and_a_seed() -> None:
    target = open_target("random:tiny-resnet@24", seed=5)
    assert (target.spec.input_size, target.kind, target.exposure) == (24, "random", None)
    assert open_target("random:tiny-resnet", seed=5).spec.input_size == 32
    assert open_target("random:tiny-resnet", seed=6).spec.weight_hash != target.spec.weight_hash


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("random:tiny-resnot", "tiny-resnet"),
        ("random:tiny-resnet@big", "random:ARCH@SIZE"),
        ("not/there", "must be a run folder"),
    ],
)
def test_an_encoder_that_is_not_there_is_one_line(name: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        open_target(name)
    assert says in str(error.value)


def test_a_run_must_be_finished_and_have_its_exposure(run: Path) -> None:
    assert evaluate(run, EMOJI_TASKS[:1], config=SHORT)[0].selection.startswith("weights: last epoch")
    (run / "finished.json").unlink()
    with pytest.raises(UserError, match="run must be finished"):
        open_target(run)
    (run / "finished.json").write_text("{}")
    (run / "exposure.parquet").unlink()
    for path in (run, run / "encoder.json"):
        with pytest.raises(UserError, match=r"lacks exposure\.parquet"):
            open_target(path)


# Leakage, end to end ------------------------------------------------------------------------------


def row_where(catalog: Catalog, *, split: str, held_out: bool) -> int:
    return int(
        np.flatnonzero((catalog.column("split") == split) & (catalog.column("held_out") == held_out))[0]
    )


@pytest.mark.parametrize("key", ["file_hash", "pixel_hash", "split_group"])
@pytest.mark.parametrize(
    ("held_out", "refused"),
    [(False, {"emoji-subgroup", "emoji-retrieval"}), (True, {"emoji-subgroup-held-out", "emoji-retrieval"})],
)
def test_a_scored_image_seen_by_any_key_is_refused(
    run: Path, emoji: Emoji, key: str, held_out: bool, refused: set[str]
) -> None:
    """Under another id, with the other keys unknown, whether it is a query or in the gallery."""
    catalog = emoji[1]
    row = row_where(catalog, split="test", held_out=held_out)
    other = {name: None for name in ("file_hash", "pixel_hash", "split_group") if name != key}
    expose(run, [exposed(catalog, row, image_id="another name", **other)])
    (run / "recipe.yaml").write_text(f"data:\n  source: {emoji[0]}\n")
    # The image's group is shared by all its drawings, so every task that scores any of them is refused.
    for task in EMOJI_TASKS:
        with pytest.raises(UserError, match=rf"task {task} must score images that pretraining has not seen"):
            evaluate(run, [task], config=SHORT)
    without_groups = catalog.with_column("split_group", [None] * len(catalog))
    path = run.parent / "no-groups.arrow"
    without_groups.save(path)
    if key == "split_group":
        return
    for task in EMOJI_TASKS:
        if task in refused:
            with pytest.raises(UserError, match="1 of"):
                evaluate(run, [task], config=SHORT, data=f"catalog:{path}")
        else:
            evaluate(run, [task], config=SHORT, data=f"catalog:{path}")


def test_a_refusal_writes_nothing(run: Path, emoji: Emoji, tmp_path: Path) -> None:
    """Not even the numbers of a task on other images, asked for before it."""
    expose(run, [exposed(emoji[1], row_where(emoji[1], split="test", held_out=True))])
    out = tmp_path / "results.jsonl"
    with pytest.raises(UserError, match="must score images"):
        evaluate(run, ["digits", "emoji-retrieval"], out, config=SHORT)
    assert not out.exists()


def test_fitting_on_seen_images_is_allowed_and_said(run: Path, emoji: Emoji) -> None:
    catalog = emoji[1]
    train = np.flatnonzero((catalog.column("split") == "train") & (catalog.column("domain") == "google"))
    expose(run, [exposed(catalog, int(row), split_group=None) for row in train])
    (run / "recipe.yaml").write_text("data:\n  source: folder:elsewhere\n")
    found = evaluate(run, EMOJI_TASKS, config=SHORT)
    linear, retrieval = found[0], found[-1]
    assert linear.extra["leakage"] == ["file_hash", "pixel_hash"]
    # Both seen designers draw each of these concepts, and a concept is one group: 36 of 54 images.
    assert linear.extra["fit_seen_in_pretraining"] == 36
    assert retrieval.extra["fit_seen_in_pretraining"] == 0


def test_another_file_of_a_seen_picture_is_found_by_its_pixels(
    run: Path, drawings: Path, tmp_path: Path
) -> None:
    """The folder is scanned without decoding; the record has pixel hashes, so they are computed."""
    from PIL import Image

    source = open_source(f"folder:{drawings}")
    catalog = source.scan(decode=True).catalog
    expose(run, [exposed(catalog, row, split_group=None) for row in range(len(catalog))])
    for uri in catalog.column("uri"):
        target = (tmp_path / "bmp" / uri).with_suffix(".bmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(drawings / uri).save(target)
    with pytest.raises(UserError, match="were seen"):
        evaluate(run, [f"folder:{tmp_path / 'bmp'}"], config=SHORT)


# What is asked for --------------------------------------------------------------------------------


def test_data_alone_is_its_labels_and_with_emoji_tasks_their_images(
    encoder: Path, drawings: Path, emoji: Emoji, tmp_path: Path
) -> None:
    alone = evaluate(encoder, data=f"folder:{drawings}", config=SHORT)
    assert {r.task for r in alone} == {f"folder:{drawings}"}
    half = emoji[1].select(emoji[1].column("domain") != "twitter")
    half.save(tmp_path / "half.arrow")
    moved = evaluate(encoder, ["emoji-subgroup"], data=f"catalog:{tmp_path / 'half.arrow'}", config=SHORT)
    assert (moved[0].task, moved[0].n) == ("emoji-subgroup", 9)
    with pytest.raises(UserError, match="takes no --data"):
        evaluate(encoder, ["digits"], data=f"folder:{drawings}", config=SHORT)


def test_mistakes_are_found_before_anything_is_computed(
    encoder: Path, drawings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text("a diary\n")
    with pytest.raises(UserError, match="line 1 is not JSON"):
        evaluate(encoder, EMOJI_TASKS, out, config=SHORT)
    assert out.read_text() == "a diary\n"
    with pytest.raises(UserError, match="must name each task once"):
        evaluate(encoder, ["digits", "digits"], config=SHORT)
    with pytest.raises(UserError, match="device must be"):
        evaluate(encoder, EMOJI_TASKS, config=SHORT, device="tpu")
    single = tmp_path / "single" / "only"
    single.mkdir(parents=True)
    shutil.copy(next(drawings.rglob("*.png")), single / "a.png")
    with pytest.raises(UserError, match=r"task folder:.*single: the labels must hold two classes"):
        evaluate(encoder, [f"folder:{single.parent}"], config=SHORT)
