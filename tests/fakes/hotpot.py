"""One question in HotpotQA's official format."""

from typing import Any

HOTPOT: dict[str, Any] = {
    "_id": "q1",
    "question": "Which river flows through the capital of Latvia?",
    "answer": "Daugava",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["Riga", 0], ["Latvia", 0], ["Riga", 1]],
    "context": [
        ["Riga", ["Riga lies on the Daugava.", " It is old."]],
        ["Latvia", ["The capital of Latvia is Riga."]],
        ["Oslo", ["Oslo is far away."]],
    ],
}
