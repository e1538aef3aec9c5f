"""The verb `score`, on an engine that follows the procedure from the prompt alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subterra.compile import score
from subterra.compile.agent_source import find_agent
from subterra.compile.policy import Message, Move, State, move
from subterra.compile.procedure import Procedure
from subterra.compile.score import draw_scenarios, score_variant
from subterra.compile.user_bank import UserBank, load_bank
from subterra.runtime.chatml import ChatTokenizer
from subterra.runtime.cli import main
from subterra.runtime.errors import EngineError, ScoreError, UsageError
from subterra.runtime.files import sha256_file

KEYS = {
    *("success", "failure", "terminal_accuracy", "hub_accuracy", "node_accuracy"),
    *("joint_state_accuracy", "conversations", "variant", "users", "seed"),
}
"""What other tools rely on."""


@pytest.fixture
def users(kettle_folder: Path) -> Path:
    return kettle_folder / "users" / "heldout.yaml"


@pytest.fixture
def opened(
    monkeypatch: pytest.MonkeyPatch,
    gold_engine: Callable[..., Any],
    kettle: Procedure,
    users: Path,
    tokenizer: ChatTokenizer,
) -> list[Path]:
    """Put a gold agent behind every model file, but one that resigns behind Q4_0."""
    opened: list[Path] = []
    bank = load_bank(users, kettle)

    def resign(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        return Move(State("gone", step.state.slots)) if step.state.node == "done" else step

    def open_engine(engine: str, path: Path, *, context_tokens: int) -> object:
        opened.append(path)
        recipe = json.loads((path.parent.parent / "merged" / "subterra.json").read_text())["recipe"]
        behave = resign if path.stem == "Q4_0" else move
        return gold_engine(kettle, bank, tokenizer, recipe=recipe, behave=behave)

    monkeypatch.setattr(score, "open_engine", open_engine)
    return opened


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["score", *map(str, arguments), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_json_holds_every_promised_key(
    opened: list[Path], work: Path, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, work, "--users", users, "--conversations", 12, "--seed", 4)
    assert found.keys() >= KEYS
    assert found["success"] == {"value": 1.0, "n": 12, "low": 0.758, "high": 1.0}
    assert found["failure"]["value"] == 0
    assert (found["conversations"], found["seed"], found["variant"]) == (12, 4, "Q8_0")
    assert found["users"] == str(users)
    assert opened == [work / "variants" / "Q8_0.gguf"]


def test_a_faulty_variant_scores_lower_on_the_same_scenarios(
    opened: list[Path], work: Path, users: Path, kettle_folder: Path
) -> None:
    good, bad = (
        score_variant(
            "llama.cpp",
            work / "variants" / f"{name}.gguf",
            merged=work / "merged",
            procedure=kettle_folder,
            users=users,
            conversations=20,
            seed=1,
        )
        for name in ("Q8_0", "Q4_0")
    )
    scenarios = [c.scenario for c in good.conversations]
    assert scenarios == [c.scenario for c in bad.conversations]
    assert good.success == [True] * 20
    assert bad.success == [scenario.path[-1] == "gone" for scenario in scenarios]
    assert set(good.rates) > {"success", "node_accuracy", "joint_state_accuracy"}
    assert (good.source.variant, bad.source.variant) == ("Q8_0", "Q4_0")


def test_the_users_of_two_variants_say_the_same_as_long_as_the_agents_do(
    opened: list[Path], work: Path, users: Path, kettle: Procedure
) -> None:
    first, second = (
        score.score_agent(
            find_agent(work, "Q8_0"),
            kettle,
            load_bank(users, kettle),
            conversations=8,
            seed=2,
            parallel=parallel,
        )
        for parallel in (1, 4)
    )
    assert [c.exchanges for c in first.conversations] == [c.exchanges for c in second.conversations]


def test_another_seed_draws_other_scenarios(kettle: Procedure, kettle_bank: UserBank) -> None:
    drawn = [draw_scenarios(kettle, kettle_bank, 10, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_plain_agent_is_scored_with_the_accuracy_of_its_classifier(
    opened: list[Path], work: Path, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = json.loads((work / "merged" / "subterra.json").read_text())
    (work / "merged" / "subterra.json").write_text(json.dumps(card | {"recipe": "plain"}))
    found = document(capsys, work, "--users", users, "--conversations", 6)
    assert found["classifier_accuracy"]["value"] > 0.99
    assert found["joint_state_accuracy"] is None
    assert found["success"]["value"] == 1


def test_failures_are_written_to_the_transcript_file(
    opened: list[Path], work: Path, users: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = tmp_path / "lost.txt"
    arguments = [work, "--variant", "Q4_0", "--users", users, "--transcripts", lost]
    found = document(capsys, *arguments, "--conversations", 10)
    assert lost.read_text().count("scenario: ") == round(10 * found["failure"]["value"]) > 0


def test_people_get_a_table_with_intervals_and_the_next_command(
    opened: list[Path], work: Path, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(work), "--users", str(users), "--conversations", "5"]) == 0
    shown = capsys.readouterr()
    assert "success               100.0 %  [56.6, 100.0]   n = 5" in shown.out
    assert f"next: subterra seal {work}" in shown.err


def test_the_procedure_may_lie_elsewhere(
    opened: list[Path], work: Path, users: Path, tmp_path: Path, kettle_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bank = tmp_path / "bank.yaml"
    bank.write_bytes(users.read_bytes())
    arguments = [work, "--users", bank, "--procedure", kettle_folder / "procedure.yaml"]
    assert document(capsys, *arguments, "--conversations", 2)["users"] == str(bank)


@pytest.mark.parametrize("option", ["--conversations", "--parallel"])
def test_a_count_below_one_is_refused(
    work: Path, users: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["score", str(work), "--users", str(users), option, "0"])
    assert code == UsageError.exit_code
    assert "at least 1" in capsys.readouterr().err


def test_an_engine_is_closed_even_if_the_rollout_fails(
    monkeypatch: pytest.MonkeyPatch, work: Path, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[str] = []

    class Broken:
        def slots(self, count: int) -> object:
            raise EngineError("no memory for the slots", hint="--parallel 1")

        def close(self) -> None:
            closed.append("engine")

    monkeypatch.setattr(score, "open_engine", lambda *_, **__: Broken())
    assert main(["score", str(work), "--users", str(users)]) == EngineError.exit_code
    assert closed == ["engine"]
    assert "--parallel 1" in capsys.readouterr().err


def test_a_missed_requirement_fails_with_figure_and_interval_after_the_document(
    opened: list[Path], work: Path, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", str(work), "--users", str(users), "--variant", "Q4_0", "--json"]
    options = ["--conversations", "10", "--require", "success >= 0.95, hub_accuracy>=0.5"]
    assert main([*arguments, *options]) == ScoreError.exit_code
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    success = found["success"]
    assert f"success is {success['value']:.4g} [" in shown.err
    assert "n = 10, required >= 0.95" in shown.err
    assert "hub_accuracy is" not in shown.err
    assert [r["met"] for r in found["requirements"]] == [False, True]


def test_a_requirement_that_is_met_passes_and_says_so(
    opened: list[Path], work: Path, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", str(work), "--users", str(users), "--conversations", "10"]
    assert main([*arguments, "--require", "success.low >= 0.7", "--require", "turns > 9"]) == 0
    assert "met: success.low is 0.7225 [0.7225, 1], n = 10" in capsys.readouterr().err


@pytest.mark.parametrize("expression", ["accuracy >= 0.9", "success", ""])
def test_a_wrong_requirement_is_refused_before_anything_is_opened(
    opened: list[Path],
    work: Path,
    users: Path,
    expression: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["score", str(work), "--users", str(users), "--require", expression])
    assert code == UsageError.exit_code
    assert opened == []


@pytest.mark.parametrize(("options", "held"), [([], True), (["--unconstrained"], False)])
def test_the_document_says_whether_state_lines_were_held_to_the_procedure(
    opened: list[Path],
    work: Path,
    users: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    held: bool,
) -> None:
    found = document(capsys, work, "--users", users, "--conversations", 3, *options)
    assert found["constrained"] is held


def test_a_work_folder_is_not_held_to_a_procedure_that_was_edited_since(
    opened: list[Path],
    work: Path,
    users: Path,
    kettle_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = work / "merged" / "subterra.json"
    digest = sha256_file(kettle_folder / "procedure.yaml")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": {"procedure": digest}}))
    edited = tmp_path / "procedure.yaml"
    edited.write_text((kettle_folder / "procedure.yaml").read_text() + "# edited\n")
    arguments = ["score", str(work), "--users", str(users), "--conversations", "3", "--json"]
    for procedure, held in ((kettle_folder, True), (edited, False)):
        assert main([*arguments, "--procedure", str(procedure)]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["constrained"] is held
        assert ("not the one that kettle was compiled from" in shown.err) is not held


def test_failures_are_explained_in_clusters(
    opened: list[Path], work: Path, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [work, "--users", users, "--variant", "Q4_0", "--conversations", 10, "--explain"]
    (cluster,) = document(capsys, *arguments)["clusters"]
    assert (cluster["node"], cluster["fault"]) == ("done", "terminal")
    assert any(line.startswith("!") for line in cluster["examples"][0]["transcript"])
    assert main(["score", *map(str, arguments)]) == 0
    assert "done: ended at the wrong terminal" in capsys.readouterr().out


def test_an_agent_is_compared_with_another_variant_and_with_a_saved_score(
    opened: list[Path], work: Path, users: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [work, "--users", users, "--conversations", 20]
    live = document(capsys, *arguments, "--against", "Q4_0")["against"]
    assert live["agent"] == "kettle Q4_0"
    assert (live["lost"], len(live["gained"])) == ([], 20 - round(20 * live["success"]["value"]))
    assert 0 < live["mcnemar_p"] < 0.05
    assert opened == [work / "variants" / "Q8_0.gguf", work / "variants" / "Q4_0.gguf"]
    saved = tmp_path / "score.json"
    saved.write_text(json.dumps(document(capsys, *arguments, "--variant", "Q4_0")))
    assert document(capsys, *arguments, "--against", saved)["against"] == live
    assert main(["score", *map(str, arguments), "--against", str(saved)]) == 0
    assert "only this succeeded" in capsys.readouterr().out
    code = main(["score", *map(str, arguments), "--seed", "9", "--against", str(saved)])
    assert code == UsageError.exit_code


def test_a_score_says_which_bank_it_is_and_warns_of_the_training_bank(
    opened: list[Path], work: Path, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", str(work), "--users", str(users), "--conversations", "2"]
    assert main(arguments) == 0
    shown = capsys.readouterr().err
    assert f"users: {users}: the agent does not say" in shown
    assert "warning" not in shown
    path = work / "merged" / "subterra.json"
    card = json.loads(path.read_text()) | {"inputs": {"users": sha256_file(users)}}
    path.write_text(json.dumps(card))
    assert main(arguments) == 0
    assert "the score measures memory" in capsys.readouterr().err
