"""The official Uni-Sign, pose-only, with random weights (tests/references) gives our key points, scores, sentences."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_official import answers, close, refused

from signcl.cli import main
from signcl.data.batch import Batch, pack_positions
from signcl.data.features import read_features
from signcl.data.pose_layouts import POINT_ORDERS
from signcl.data.poses import PoseReading
from signcl.losses import label_smoothed_cross_entropy
from signcl.systems.parts.official import Checkpoint
from signcl.systems.uni_sign import UniSign
from signcl.training.importing import import_checkpoint
from signcl.training.runs import initialise, load_run
from tests.references import Reference

REFERENCE = Reference("uni_sign")
WEIGHTS = REFERENCE.weights()
LENGTHS = REFERENCE["lengths"].tolist()
SENTENCES = json.loads(REFERENCE.about["sentences"])
READING = PoseReading(confidence=True, layout="uni_sign133", min_confidence=0.3)
OFFICIAL = [0, *range(3, 11), *range(91, 133), *range(23, 40, 2), *range(83, 91), 53]
"""The points of the reference's rows, by their number in COCO-WholeBody: body, left hand, right hand, face."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with mT5's tokenizer and config (mt5-base), a checkpoint as the official script saves it
    (best_checkpoint.pth), and the key points of three clips with their table."""
    place = tmp_path_factory.mktemp("uni_sign")
    mt5 = place / "mt5-base"
    mt5.mkdir()
    (mt5 / "spiece.model").write_bytes(REFERENCE["pieces"].numpy().tobytes())
    (mt5 / "config.json").write_text(REFERENCE.about["mt5"])
    (mt5 / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}')
    torch.save({"model": WEIGHTS}, place / "best_checkpoint.pth")
    rows = ["name\tpath\ttext"]
    clips = zip(REFERENCE["keypoints"].split(LENGTHS), REFERENCE["scores"].split(LENGTHS), SENTENCES)
    for i, (points, scores, sentence) in enumerate(clips):
        record = {"keypoints": list(points[:, None].numpy()), "scores": list(scores[:, None].numpy())}
        if i == 1:  # a clip inside a longer file
            record = {key: [value[-1] * 0 + 0.7, *value, value[0]] for key, value in record.items()}
            record |= {"start": 1, "end": 1 + LENGTHS[i]}
        (place / f"c{i}.pkl").write_bytes(pickle.dumps(record))
        rows.append(f"c{i}\tc{i}.pkl\t{sentence}")
    (place / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return place


def options(place: Path, *more: str) -> list[str]:
    return [f"text.tokenizer=pretrained:{place}/mt5-base", "model.language=Chinese", *more]


@pytest.fixture(scope="module")
def run(place):
    """The imported run."""
    made = import_checkpoint(
        "uni_sign", place / "best_checkpoint.pth", place / "run", overrides=options(place, "decode.max_new_tokens=12")
    )
    assert made.fresh == made.assumed == {}
    assert set(made.left.values()) == {f"the same tensor as {name.replace('.right.', '.left.')}" for name in made.left}
    assert len(made.mapped) + len(made.left) == len(REFERENCE.shapes)
    return load_run(made.folder)


def rows_of(place: Path) -> list[np.ndarray]:
    return [read_features(place / f"c{i}.pkl", f"c{i}", READING) for i in range(len(LENGTHS))]


def test_its_key_points_are_scaled_and_cut_as_by_the_official_loader(place):
    ours = np.concatenate(rows_of(place)).reshape(-1, 69, 3)
    columns = POINT_ORDERS["uni_sign133"].columns
    theirs = REFERENCE["rows"].numpy()[:, [OFFICIAL.index(column) for column in columns]]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert (theirs == 0).all(axis=2).any(), "the reference holds points that the estimator is not sure of"
    assert (np.abs(theirs[..., :2]) == 1).any(), "and points far away"
    hand = columns.index(91)
    unsure = (ours[:, hand] == 0).all(axis=1)
    assert ours[unsure, hand + 1 : hand + 21].any(), "and fingers around a wrist that it is not sure of"


def test_its_features_scores_and_sentences_are_the_official_ones(place, run):
    tokens, lengths = REFERENCE["tokens"], torch.tensor(LENGTHS)
    words = tokens != run.tokenizer.pad_id
    assert [run.tokenizer.encode(sentence) for sentence in SENTENCES] == answers(tokens, 0)
    rows = torch.from_numpy(np.concatenate(rows_of(place)))
    batch = Batch(["a", "b", "c"], SENTENCES, rows, pack_positions(LENGTHS), lengths, max(LENGTHS), torch.ones(3),
                  tokens=tokens, token_lengths=words.sum(dim=1))  # fmt: skip
    for language in ("Chinese", "English"):
        prompt = run.model.config.lm.prompt.replace("{language}", language).replace("{signs}", "")
        assert run.tokenizer.bare(prompt) == REFERENCE[f"prompt_{language.lower()}"].tolist()
    with torch.no_grad():
        out = run.model(batch)
        found = run.model.generate(batch, num_beams=4, length_penalty=1.0, max_new_tokens=12)
    real = torch.arange(max(LENGTHS)) < lengths[:, None]
    close(out.features[real], REFERENCE["features"])
    close(out.steps[real], REFERENCE["steps"])
    close(out.logits[words], REFERENCE["logits"])
    losses = [label_smoothed_cross_entropy(out.logits[i : i + 1], tokens[i : i + 1], 0, 0.2) for i in range(3)]
    close(torch.stack(losses), REFERENCE["losses"])
    assert answers(found, 0) == answers(REFERENCE["found"][:, 1:], 0)


def test_an_imported_run_is_scored_and_starts_a_training(place, run, capsys):
    assert main(["evaluate", str(run.folder), "--root", str(place), "--device", "cpu", "--bootstrap", "0"]) == 0
    capsys.readouterr()
    lines = (run.folder / "predictions.test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    theirs = [run.tokenizer.decode(row) for row in REFERENCE["found"][:, 1:].tolist()]
    assert [line.split("\t")[-1] for line in sorted(lines)] == theirs
    recipe = run.recipe
    recipe.model = type(recipe.model)(**{**vars(recipe.model), "init_from": str(run.folder)})
    fresh = load_run(run.folder).model
    with torch.no_grad():
        for value in fresh.parameters():
            value.zero_()
    initialise(fresh, recipe, run.tokenizer)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_other_checkpoints_of_uni_sign_are_refused_in_one_line(place, tmp_path, capsys):
    file, out = tmp_path / "other.pth", tmp_path / "run"
    told = [f"--{option}" for option in options(place)]
    checkpoint = place / "best_checkpoint.pth"
    line = refused(capsys, "uni_sign", checkpoint, "-o", out, told[0])
    assert f"{checkpoint}: it does not hold the language of its prompt; name that of its training: --model.lang" in line
    assert "--text.tokenizer=pretrained:FOLDER" in refused(capsys, "uni_sign", checkpoint, "-o", out, told[1])
    elsewhere = "gcn_modules.right.layer0_0.gcn.A"
    for changes, message in (
        ({"rgb_proj.weight": torch.zeros(1)}, r"is an RGB-pose checkpoint of Uni-Sign .1 tensors for pictures"),
        ({"fusion_gate.0.bias": torch.zeros(1)}, "give a pose-only one"),
        ({"pose_norm.weight": torch.zeros(1)}, "1 of 313 tensors are not in the released form of a uni_sign"),
        ({elsewhere: WEIGHTS[elsewhere] + 1}, f"{elsewhere} differs from gcn_modules.left.layer0_0.gcn.A, but both"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            UniSign.published(Checkpoint(file, WEIGHTS | changes))
        assert "\n" not in str(error.value)
    face, table, head = "gcn_modules.face_all.layer0_0.gcn.A", "mt5_model.shared.weight", "mt5_model.lm_head.weight"
    for changes, message in (
        ({face: torch.zeros(2, 9, 9)}, r"has shape \[2, 9, 9\].*\[2, 18, 18\]"),
        ({head: None}, r"lacks 1 of the \d+ tensors of this model, first decoder.lm.lm_head"),
        ({table: None}, "lacks mt5_model.shared.weight, which every checkpoint of kind uni_sign"),
        ({table: WEIGHTS[table][:20]}, "20 rows but the tokenizer has 44"),
    ):
        torch.save({"model": {k: v for k, v in (WEIGHTS | changes).items() if v is not None}}, file)
        assert re.search(message, refused(capsys, "uni_sign", file, "-o", out, *told))
        assert not out.exists()
    (tmp_path / "config.json").write_text(json.dumps({"d_ff": 2048}))
    config = {"config": tmp_path / "config.json"}
    with pytest.raises(ValueError, match=r"config.json: d_ff is 2048, and 24 in .*best_checkpoint.pth"):
        import_checkpoint("uni_sign", checkpoint, out, overrides=options(place), beside=config)
