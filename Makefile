# Each target works on a machine that has Python 3.11 or newer with venv and pip, and a C++ compiler, and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-gpu check fuzz mutants native-test sanitize peers clean
.DELETE_ON_ERROR:
.NOTPARALLEL:  # two installations into one environment would meet
unexport PYTHONDONTWRITEBYTECODE  # each run of the tests would compile them anew, for seconds

demo: $(VENV)/.train
	@$(BIN)/unspool demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not gpu'

test-gpu: $(VENV)/.dev
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else f"make test-gpu needs a CUDA device, and PyTorch {torch.__version__} finds none. On a machine with one, install a PyTorch built for CUDA into $(VENV).")'
	$(BIN)/python -m pytest -m gpu tests/gpu

# Programs that look for mistakes by chance, one after the other: make fuzz MINUTES=60
MINUTES ?= 10
FUZZERS := tests.fuzz.cells tests.fuzz.readers

fuzz: $(VENV)/.dev
	@for program in $(FUZZERS); do $(BIN)/python -m $$program --minutes $(MINUTES) || exit 1; done

# Mistakes that are made in the library, one at a time, to see whether the tests find them: make mutants WORDS=schedule
mutants: $(VENV)/.dev
	$(BIN)/python -m tests.mutants $(WORDS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_docstrings.py tests/test_import.py

# pip comes last into an environment: one whose making was interrupted is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"unspool needs Python 3.11 or newer; this is {sys.version.split()[0]}. Name another one with: make PYTHON=python3.12 ...")'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

NATIVE := CMakeLists.txt $(wildcard native/*.txt native/*.hpp native/*.cpp native/*.def)

$(VENV)/.train: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/pip
	@echo "Installing unspool and what training needs into $(VENV) (PyTorch is large, the engine is compiled: some minutes)"
	@$(PIP_INSTALL) --editable '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/pip
	@echo "Installing unspool and what the tests need into $(VENV) (PyTorch is large, the engine is compiled: some minutes)"
	@$(PIP_INSTALL) --editable '.[train,dev]'
	@touch $@ $(VENV)/.train

# The engine's own tests, with each instruction set that the machine has; and the same under AddressSanitizer with
# UndefinedBehaviorSanitizer and under ThreadSanitizer. They need CMake and a C++20 compiler, and no Python.
define run_native_tests
	cmake -S native -B build/native$(1) -DUNSPOOL_NATIVE_TESTS=ON -DUNSPOOL_SANITIZE=$(1)
	cmake --build build/native$(1) --parallel 2 --target unspool_native_tests
	ctest --test-dir build/native$(1) --output-on-failure
endef

native-test:
	$(call run_native_tests)

sanitize:
	$(call run_native_tests,address$(comma)undefined)
	$(call run_native_tests,thread)

comma := ,

# What `unspool compare` and `python -m benchmarks.run --peers` compare with, each in an environment of its own.
peers: .peers/tensorflow/.installed .peers/jax/.installed

.peers/%/.installed: src/unspool/comparison/peers/requirements-%.txt
	@echo "Installing $* into .peers/$*"
	@$(PYTHON) -m venv .peers/$*
	@.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

clean:
	rm -rf $(VENV) .peers build runs dist .pytest_cache .ruff_cache .hypothesis
