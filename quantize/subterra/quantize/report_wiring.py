"""Where the report meets the compiler: held-out dialogues as tokens, and the scorer.

Goes in: the merged checkpoint's note, dialogues, user bank, procedure. Comes out:
texts with the agent's tokens marked, and a function that scores one variant. Measures nothing.

    >>> texts = held_out_texts(Path("merged"), Path("dialogues/heldout.jsonl"), limit=50)
"""

from dataclasses import dataclass
from pathlib import Path

from subterra.compile import recipe as recipes
from subterra.compile.dialogue import Dialogue, read_dialogues
from subterra.compile.validation import procedure_beside
from subterra.quantize.agent_note import AgentNote, read_note
from subterra.quantize.divergence import ScoredText
from subterra.quantize.report_data import Scorer, ScoreSummary
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.errors import InputError


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What the conversation scorer is told on the command line."""

    merged: Path
    users: Path | None
    procedure: Path | None
    conversations: int
    seed: int
    onnx_conversations: int | None = None
    """For variants of ONNX Runtime, whose conversations run one after another; None: as many."""
    constrained: bool = True
    """Hold state lines to the procedure's transitions, as far as the agent would be sealed so."""

    @property
    def procedure_file(self) -> Path | None:
        """The procedure; without one, that beside the bank's folder."""
        if self.procedure is None and self.users is not None:
            return procedure_beside(self.users)
        return self.procedure


def held_out_texts(merged: Path, dialogues: Path, limit: int) -> list[ScoredText]:
    """Tokenize at most `limit` dialogues, evenly spread over the file.

    Raises:
        InputError: the file holds no dialogue.
        AdapterError: the checkpoint has no note.
    """
    agent = read_note(merged)
    tokenizer = ChatTokenizer(merged, ChatFormat(system=agent.system))
    found = list(read_dialogues(dialogues))
    if not found:
        raise InputError(f"{dialogues} holds no dialogue", hint="subterra compile writes some")
    count = min(limit, len(found))
    chosen = [found[i * len(found) // count] for i in range(count)]
    return [encode(tokenizer, agent, dialogue) for dialogue in chosen]


def encode(tokenizer: ChatTokenizer, agent: AgentNote, dialogue: Dialogue) -> ScoredText:
    """Tokenize a dialogue as in training; the replies and their end of turn are counted."""
    encoded = recipes.encode(dialogue, tokenizer, agent.recipe, agent.slots)
    return ScoredText(encoded.ids, [kind != recipes.Kind.READ for kind in encoded.kinds])


def make_scorer(options: ScoreOptions) -> Scorer | None:
    """Bind the conversation scorer to its inputs; None without a user bank.

    The same seed gives the same scenarios for every variant, so outcomes are paired. Without a
    procedure, the one beside the bank's folder is taken.
    """
    users, procedure = options.users, options.procedure_file
    if users is None or procedure is None:
        return None
    from subterra.compile.score import score_variant

    def score(name: str, engine: str, path: Path) -> ScoreSummary | None:
        del name
        count = options.conversations
        if engine == "onnxruntime" and options.onnx_conversations is not None:
            count = options.onnx_conversations
        if count < 1:
            return None
        found = score_variant(
            engine,
            path,
            merged=options.merged,
            procedure=procedure,
            users=users,
            conversations=count,
            seed=options.seed,
            constrained=options.constrained,
        )
        return ScoreSummary(found.success, found.rates, found.constrained)

    return score
