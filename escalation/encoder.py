"""The encoders that routers and semantic entropy compare texts with; all of it is in `flarekit.encoders`."""

from __future__ import annotations

from flarekit.encoders import DEFAULT, Encoder, Vectors, encoder_path, import_encoders, load_encoder

__all__ = ["DEFAULT", "Encoder", "Vectors", "encoder_path", "import_encoders", "load_encoder"]
