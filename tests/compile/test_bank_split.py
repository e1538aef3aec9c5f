"""The split of a training bank: nothing that trains also chooses the checkpoint."""

from subterra.compile.bank_split import split_bank
from subterra.compile.user_bank import UserBank
from subterra.compile.wording import placeholders


def test_the_two_sides_share_no_wording_and_lose_none(zoom_bank: UserBank) -> None:
    train, held = split_bank(zoom_bank, seed=0)
    for key, texts in zoom_bank.intents.items():
        assert not set(train.intents[key]) & set(held.intents[key])
        assert {*train.intents[key], *held.intents[key]} == set(texts)


def test_the_two_sides_share_no_phrase_and_lose_none(zoom_bank: UserBank) -> None:
    train, held = split_bank(zoom_bank, seed=0)
    for slot, values in zoom_bank.slots.items():
        for value, phrases in values.items():
            sides = [set(side.slots[slot][value]) for side in (train, held)]
            assert not sides[0] & sides[1]
            assert sides[0] | sides[1] == set(phrases)


def test_every_set_of_slots_keeps_wordings_on_both_sides(zoom_bank: UserBank) -> None:
    for side in split_bank(zoom_bank, seed=0):
        for key, texts in zoom_bank.intents.items():
            wanted = {placeholders(text) for text in texts}
            assert {placeholders(text) for text in side.intents[key]} == wanted


def test_most_wordings_train(zoom_bank: UserBank) -> None:
    train, held = split_bank(zoom_bank, seed=0)
    sizes = [sum(map(len, side.intents.values())) for side in (train, held)]
    assert sizes[0] > 5 * sizes[1]


def test_a_single_wording_stands_on_both_sides(kettle_bank: UserBank) -> None:
    train, held = split_bank(kettle_bank, seed=0)
    assert {*train.intents["take_back"], *held.intents["take_back"]} == {
        *kettle_bank.intents["take_back"]
    }
    single = UserBank(kettle_bank.path, {"only": ("this",)}, {})
    assert [side.intents for side in split_bank(single, 0)] == [{"only": ("this",)}] * 2


def test_the_seed_decides_the_split(zoom_bank: UserBank) -> None:
    assert split_bank(zoom_bank, 1) == split_bank(zoom_bank, 1)
    assert split_bank(zoom_bank, 1) != split_bank(zoom_bank, 2)
