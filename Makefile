# Two commands do everything on a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
RUN = .venv/bin/python

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable ".[dev]"
	touch $@

demo: .venv/installed  ## train a detector on the built-in shapes, print its mAP and where its images are
	$(RUN) train.py experiment=demo

test: .venv/installed  ## lint, types and the fast tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright --pythonpath $(RUN)
	$(RUN) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

.venv/docs: .venv/installed
	.venv/bin/pip install --quiet --editable ".[docs]"
	touch $@

docs: .venv/docs  ## the site, build/docs/index.html
	.venv/bin/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs build/docs

slow: .venv/installed  ## the tests that train for minutes
	$(RUN) -m pytest -q -m slow

.PHONY: demo docs test slow
