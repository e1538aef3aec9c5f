"""Settings of a training run."""

from subterra.compile.settings import TrainSettings


def test_the_rate_follows_the_method_unless_it_is_given() -> None:
    assert TrainSettings(method="lora").rate == 10 * TrainSettings(method="full").rate
    assert TrainSettings(learning_rate=3e-4).rate == 3e-4


def test_every_dialogue_has_a_step() -> None:
    assert TrainSettings(dialogues=12, batch=2).steps == 6
    assert TrainSettings(dialogues=13, batch=2).steps == 7
