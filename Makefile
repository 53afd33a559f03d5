# make demo   explain a real video with a real trained network, into out/
# make test   all tests, with the doctests and the code in the docs
# make lint   style and types
# make lint-js  the viewer's JavaScript; needs npm
# make docs   the documentation as a site, into build/docs
# make bench  time and memory, beside other packages, into out/benchmark; about an hour
# make compare  check the statements of docs/comparison.md about other packages
# make coverage  the tests, with the share of the package that they run
# make lock   requirements/*.txt anew, from setup.cfg and constraints.txt; needs uv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := $(VENV)/peers
ZOO := $(VENV)/zoo
# Each file in the version and with the hash of the lock; what is built from source is built with the
# locked setuptools.
INSTALL := $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --use-pep517
LOCKED := $(INSTALL) --require-hashes --requirement
LOCK := uv pip compile --quiet --generate-hashes --no-annotate \
	--custom-compile-command "make lock" --override requirements/without.in
extra = sed -n '/^$(1) =/,/^[^ ]* =/s/^    //p' setup.cfg

.PHONY: demo test lint lint-js docs bench compare coverage lock clean

demo: $(INSTALLED)
	$(BIN)/python examples/explain_directions.py --output out
	$(BIN)/python examples/explain_video.py --output out
	@echo "Open out/directions/report.html in a browser."

test: $(INSTALLED) $(ZOO)/.installed
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint-js: $(INSTALLED)
	npm install --silent --no-save --prefix $(VENV)/eslint eslint@9 @eslint/js@9 globals@15
	cp eslint.config.mjs $(VENV)/eslint
	$(VENV)/eslint/node_modules/.bin/eslint --config $(VENV)/eslint/eslint.config.mjs captum_3dcam

docs: $(INSTALLED) $(ZOO)/.installed
	$(BIN)/python -m sphinx -W docs build/docs

bench: $(PEERS)/.installed
	PYTHONPATH=$(PEERS) $(BIN)/python studies/benchmark.py --output out/benchmark

compare: $(PEERS)/.installed
	PYTHONPATH=$(PEERS) $(BIN)/python studies/check_comparison.py

# Other packages, beside the environment and without their dependencies: one contains a package
# named tests, and torchvision requires another PyTorch.
$(PEERS)/.installed: $(INSTALLED) requirements/peers.txt
	$(LOCKED) requirements/peers.txt --upgrade --target $(PEERS)
	touch $@

# The libraries of the extra zoo, likewise: torchvision and timm require another PyTorch.
$(ZOO)/.installed: $(INSTALLED) requirements/zoo.txt
	$(LOCKED) requirements/zoo.txt --upgrade --target $(ZOO)
	$(INSTALL) --constraint constraints.txt --upgrade --target $(ZOO) torchvision
	touch $@

coverage: $(INSTALLED) $(ZOO)/.installed
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

# Without a hash: PyTorch, whose wheels differ by platform and index, with NVIDIA's libraries if its
# wheel requires them.
$(INSTALLED): setup.cfg setup.py constraints.txt requirements/environment.txt
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) requirements/environment.txt
	$(BIN)/python -m pip install --quiet --no-warn-conflicts --constraint constraints.txt torch
	$(INSTALL) --editable .
	touch $@

lock:
	$(LOCK) --universal --python-version 3.10 --constraint constraints.txt \
		--output-file requirements/environment.txt \
		setup.cfg requirements/pytorch.in --extra demo --extra docs --extra test --extra lint
	$(call extra,bench) | $(LOCK) --universal --python-version 3.11 --constraint constraints.txt \
		--no-deps --output-file requirements/peers.txt -
	$(call extra,zoo) | $(LOCK) --universal --python-version 3.10 --constraint constraints.txt \
		--no-deps --output-file requirements/zoo.txt -
	$(LOCK) --python-platform linux --python-version 3.10 --constraint constraints-oldest.txt \
		--output-file requirements/oldest.txt setup.cfg requirements/pytorch.in --extra test

clean:
	rm -rf $(VENV) out build *.egg-info
