# make demo   explain a real video with a real trained network, into out/
# make test   all tests, with the doctests and the code in the docs
# make lint   style and types
# make docs   the documentation as a site, into build/docs
# make bench  time and memory, beside other packages, into out/benchmark; about an hour
# make compare  check the statements of docs/comparison.md about other packages
# make coverage  the tests, with the share of the package that they run
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := $(VENV)/peers
ZOO := $(VENV)/zoo

.PHONY: demo test lint docs bench compare coverage clean

demo: $(INSTALLED)
	$(BIN)/python examples/explain_video.py --output out
	$(BIN)/python examples/explain_actions.py --output out

test: $(INSTALLED) $(ZOO)/.installed
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W docs build/docs

bench: $(PEERS)/.installed
	PYTHONPATH=$(PEERS) $(BIN)/python studies/benchmark.py --output out/benchmark

compare: $(PEERS)/.installed
	PYTHONPATH=$(PEERS) $(BIN)/python studies/check_comparison.py

# Other packages, beside the environment and without their dependencies: one contains a package
# named tests, and torchvision requires another PyTorch.
$(PEERS)/.installed: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(PEERS) \
		--constraint constraints.txt torchcam grad-cam medcam monai ttach
	touch $@

# The libraries of the extra zoo, likewise: torchvision and timm require another PyTorch.
$(ZOO)/.installed: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(ZOO) \
		--constraint constraints.txt $$(sed -n '/^zoo =/,/^docs =/s/^    //p' setup.cfg)
	touch $@

coverage: $(INSTALLED) $(ZOO)/.installed
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

$(INSTALLED): setup.cfg setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,docs,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
