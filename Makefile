# make demo   explain a real video with a real trained network, into out/
# make test   every test, doctests and docs included
# make lint   style and types
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint coverage clean

demo: $(INSTALLED)
	$(BIN)/python examples/explain_video.py --output out

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(INSTALLED)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

$(INSTALLED): setup.cfg setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
