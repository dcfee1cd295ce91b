# `make demo` and `make test` need Python 3.11 or newer, pip and make; they set up the rest in this folder.
PYTHON ?= python3
UV := PYTHONPATH=.uv $(PYTHON) -m uv
# --inexact: what one target installed isn't removed by the other.
SYNC := $(UV) sync --frozen --inexact --compile-bytecode --python $(PYTHON)

.PHONY: demo test check clean

demo: .uv
	$(SYNC) --no-dev --extra train
	.venv/bin/python -m compileall -q src
	.venv/bin/sightline demo

test: .uv
	$(SYNC)
	.venv/bin/python -m compileall -q src
	.venv/bin/python -m pytest

check: .uv
	$(SYNC)
	scripts/check

.uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv "uv>=0.9"

clean:
	rm -rf .uv .venv
