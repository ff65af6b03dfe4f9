"""Writing the built-in world to a folder, so that other programs and a search engine can read it too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flarekit.errors import DataError
from flarekit.eval.data.dataset import Question
from flarekit.eval.data.world import iter_passages, iter_questions
from flarekit.io.terminal import say
from flarekit.retrievers.corpus.formats import write_corpus, write_json_lines


def write_world(out: Path, passages: int = 400, questions: int = 100, seed: int = 0) -> None:
    """Write `corpus.jsonl` (`id, title, text`) and `questions.jsonl` (the fields of `Question`), an object a line.

    `flarekit.eval.data.formats.load_world` reads the folder back. Passages are streamed: a million take constant
    memory. Raises `ConfigError` for a size out of range or too many questions, `DataError` if the folder cannot be
    written.
    """
    drawn = list(iter_questions(passages, questions, seed))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be made a folder ({error.strerror}); give another place") from error
    write_json_lines(out / "questions.jsonl", map(_as_record, drawn))
    write_corpus(out / "corpus.jsonl", iter_passages(passages, seed))


def _as_record(question: Question) -> dict[str, object]:
    return {
        "id": question.id,
        "text": question.text,
        "answers": question.answers,
        "supporting": question.supporting,
        "kind": question.kind,
        "needs_retrieval": question.needs_retrieval,
    }


def world(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    passages: Annotated[int, typer.Option(help="From 50 to 1,000,000.")] = 400,
    questions: Annotated[int, typer.Option(help="Questions over them.")] = 100,
    seed: Annotated[int, typer.Option(help="Another seed is another world.")] = 0,
) -> None:
    """Write the built-in world, of any size, to a folder; ask it with --dataset world --data FOLDER."""
    write_world(out, passages, questions, seed)
    say(f"{out}: {passages} passages in corpus.jsonl, {questions} questions in questions.jsonl")
