# make demo   explain a real video with a real trained network, into out/
# make test   every test, doctests and docs included
# make lint   style and types
# make docs   the documentation as a site, into build/docs
# make bench  what an explanation costs, beside other packages, into out/benchmark; about an hour
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint docs bench coverage clean

demo: $(INSTALLED)
	$(BIN)/python examples/explain_video.py --output out
	$(BIN)/python examples/explain_actions.py --output out

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W docs build/docs

# Beside the environment and without what they ask for: one brings a package named tests, and
# torchvision another PyTorch.
bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/peers \
		--constraint constraints.txt torchcam grad-cam medcam ttach
	PYTHONPATH=$(VENV)/peers $(BIN)/python studies/benchmark.py --output out/benchmark

coverage: $(INSTALLED)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

$(INSTALLED): setup.cfg setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,docs,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
