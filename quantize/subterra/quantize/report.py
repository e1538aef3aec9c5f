r"""`subterra report`: accuracy, speed and size of every variant against the merged model.

Goes in: a work folder with `merged/` and `variants/`, held-out dialogues, optionally a user bank.
Comes out: a folder `report/` with `report.md`, `report.html` and `report.json`, put in place
at once. Until then each result is kept in the work folder, so a killed report goes on.

    $ subterra report build/zoom_support --dialogues build/zoom_support/dialogues/heldout.jsonl \
        --users examples/zoom_support/users/heldout.yaml --require 'Q8_0.success >= 0.85'
"""

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from subterra.compile.card import read_card
from subterra.quantize.agent_note import read_note
from subterra.quantize.divergence import ScoredText
from subterra.quantize.measured import FOLDER, Measured, What
from subterra.quantize.quantize import Record, read_record
from subterra.quantize.report_data import Report, Scorer, recommend
from subterra.quantize.report_html import page
from subterra.quantize.report_markdown import markdown
from subterra.quantize.report_measure import machine, measure
from subterra.quantize.report_require import EXAMPLE, check, missed
from subterra.quantize.report_wiring import (
    ScoreOptions,
    held_out_texts,
    make_scorer,
)
from subterra.quantize.variants import existing, missing_checkpoint, parameter_count
from subterra.runtime.errors import ExportError, InputError, ScoreError
from subterra.runtime.files import replacing_folder, sha256_file, write_json, write_text

DIALOGUES = 20
"""Dialogues of the divergence pass: near 4,000 tokens of the agent, so 40 lie beyond 99 %; six
variants of a 135M model then take two to three minutes on two cores."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("work", type=Path, metavar="WORK_FOLDER", help="folder with variants/")
    parser.add_argument("--dialogues", type=Path, required=True, help="held-out dialogues, JSONL")
    parser.add_argument("--limit", type=int, default=DIALOGUES, help="dialogues used (%(default)s)")
    parser.add_argument("--users", type=Path, help="user bank; without it success is not measured")
    parser.add_argument(
        "--procedure", type=Path, help="default: procedure.yaml beside the users folder"
    )
    parser.add_argument("--conversations", type=int, default=200, help="scored (%(default)s)")
    parser.add_argument(
        "--onnx-conversations",
        type=int,
        default=20,
        help="scored on each ONNX variant, whose conversations run one by one (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the scenarios (%(default)s)")
    parser.add_argument(
        "--unconstrained",
        action="store_true",
        help="do not hold state lines to the procedure's transitions",
    )
    parser.add_argument("--require", metavar="EXPR", help=f"fail when missed, as in: {EXAMPLE}")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Measure, write the three files, print the verdict.

    Raises:
        ScoreError: a requirement of --require is missed; the files are written all the same.
    """
    if args.require:
        check(args.require, [record.name for record in current_records(args.work)])
    score = ScoreOptions(
        merged=args.work / "merged",
        users=args.users,
        procedure=args.procedure,
        conversations=args.conversations,
        seed=args.seed,
        onnx_conversations=args.onnx_conversations,
        constrained=not args.unconstrained,
    )
    report = make_report(args.work, args.dialogues, args.limit, score, _say)
    if args.json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    problems = missed(args.require, report.to_json()) if args.require else []
    if problems:
        raise ScoreError("; ".join(problems), hint=f"see {args.work}/report/report.md")
    _say(f"next: subterra seal {args.work}")
    return 0


def make_report(
    work: Path, dialogues: Path, limit: int, score: ScoreOptions, say: Callable[[str], None]
) -> Report:
    """Measure every variant of `work` and write the three files.

    What a killed run measured on the same inputs is not measured again.

    Args:
        work: folder with merged/ and variants/.
        dialogues: held-out dialogues, JSONL.
        limit: how many of them.
        score: the conversations that success is measured on.
        say: is told the progress.

    Raises:
        InputError: there is no dialogue to measure on.
        ExportError: there are no variants, or they were made from another checkpoint.
        ResourceError: the report cannot be written.
    """
    records = current_records(work)
    kept = Measured(
        work / FOLDER,
        _inputs(dialogues, limit, score),
        {record.name: asdict(record) for record in records},
    )
    report = build(work, dialogues, limit, make_scorer(score), say, kept)
    folder = work / "report"
    write_report(folder, report)
    kept.drop()
    say(f"ship {report.recommendation.name}: {report.recommendation.why}")
    say(f"written: {folder}/report.html, report.md, report.json")
    return report


def build(
    work: Path,
    dialogues: Path,
    limit: int,
    scorer: Scorer | None,
    say: Callable[[str], None],
    kept: Measured,
) -> Report:
    """Measure every variant of `work`.

    Raises:
        InputError: there is no dialogue to measure on.
        ExportError: there are no variants, or they were made from another checkpoint.
    """
    if limit < 1:
        raise InputError(f"--limit is {limit}", hint="use at least one dialogue")
    merged = work / "merged"
    facts = machine()
    records = current_records(work)
    texts = held_out_texts(merged, dialogues, limit)
    rows, control, against = measure(work, records, texts, scorer, kept, say)
    return Report(
        title=read_note(merged).name,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        reference={
            "name": "merged",
            "engine": "torch",
            "precision": "fp32",
            "bytes": (merged / "model.safetensors").stat().st_size,
            "parameters": parameter_count(merged),
            "checkpoint_sha256": records[0].checkpoint_sha256,
            "ppl": float(f"{rows[0].divergence.reference_ppl:.4g}"),
        },
        control=control,
        rows=rows,
        flips_against=against,
        text=_text_facts(dialogues, texts),
        machine=facts,
        recommendation=recommend(rows, against),
    )


def _inputs(dialogues: Path, limit: int, score: ScoreOptions) -> dict[What, object]:
    """What the results depend on beside the variant."""
    if not dialogues.is_file():
        raise InputError(f"no dialogues at {dialogues}", hint="subterra compile writes some")
    card = read_card(score.merged)
    weights = sha256_file(score.merged / "model.safetensors")
    texts = [sha256_file(dialogues), limit, weights, card]
    facts = machine()
    quiet = {name: value for name, value in facts.items() if name != "load_average"}
    files = [score.users, score.procedure_file] if score.users else []
    digests = [sha256_file(path) for path in files if path and path.is_file()]
    counts = [score.conversations, score.onnx_conversations, score.seed, score.constrained]
    return {
        "speed": [texts, quiet],
        "divergence": [texts, quiet],
        "success": [digests, counts, card, quiet],
    }


def current_records(work: Path) -> list[Record]:
    """Records of the variants, all made from the checkpoint that lies in `work`.

    Raises:
        ExportError: there is no checkpoint or variant, or one was made from another checkpoint.
    """
    weights = work / "merged" / "model.safetensors"
    if not weights.is_file():
        raise missing_checkpoint(work / "merged")
    digest = sha256_file(weights)
    records = [r for v in existing(work) if (r := read_record(work, v)) is not None]
    if not records:
        raise ExportError(f"{work} has no variants", hint=f"subterra quantize {work}")
    stale = [record.name for record in records if record.checkpoint_sha256 != digest]
    if stale:
        raise ExportError(
            f"{', '.join(stale)} of {work} were made from another merged model",
            hint=f"subterra quantize {work}",
        )
    return records


def write_report(folder: Path, report: Report) -> None:
    """Put a folder with the three files in place of the one before.

    Raises:
        ResourceError: the folder cannot be written.
    """
    with replacing_folder(folder) as fresh:
        write_text(fresh / "report.md", markdown(report))
        write_text(fresh / "report.html", page(report))
        write_json(fresh / "report.json", report.to_json())


def _text_facts(dialogues: Path, texts: Sequence[ScoredText]) -> dict[str, object]:
    return {
        "dialogues": len(texts),
        "tokens": sum(len(text.rows()) for text in texts),
        "file": dialogues.name,
        "sha256": sha256_file(dialogues),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
