"""Write a GGUF file out as a Hugging Face model folder: `python -m flarekit.engines.local.convert FILE.gguf FOLDER`.

`flarekit.engines.local.models` runs this in a process of its own. The weights are saved as bfloat16 safetensors: a
folder is twice as small as with float32, and what the quantised file held is far coarser than either.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def convert(gguf: Path, folder: Path) -> None:
    """Load the weights and the tokenizer of `gguf` with transformers and save both into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.bfloat16)
    # transformers 5 counts the model as still quantised, and refuses to save it, as long as these two are there.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
