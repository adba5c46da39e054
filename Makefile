# From a clone to a running demo or a tested tree in one command; `make help` says how.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
TORCH ?= torch==2.13.0
EPISODES ?= 3
KEEP ?= 0.35
PYTEST_ARGS ?=
THREADS ?= 2
BENCH_OUT ?= build/bench
GPU_OUT ?= build/gpu
MINUTES ?= 12

# With a ROS installation sourced, its rclpy and messages are used; without one, pip brings them as wheels.
# The two must never meet in one environment.
ROS_WHEELS ?= kilted
ifdef ROS_DISTRO
VENV ?= .venv-$(ROS_DISTRO)
VENV_FLAGS := --system-site-packages
EXTRAS := sim,train,test
else ifeq ($(ROS_WHEELS),jazzy)
VENV ?= .venv-wheels-jazzy
VENV_FLAGS :=
EXTRAS := pip-ros-jazzy,test
TESTS ?= $(NODE_TESTS)
else
VENV ?= .venv
VENV_FLAGS :=
EXTRAS := sim,train,pip-ros,test
endif
# What depends on the release of ROS.
NODE_TESTS = $(addprefix test/test_,$(addsuffix .py,policy_node policy_node_sensors command_interfaces life_cycle \
    motion_gate start signals conversions images_arrive ros_releases preflight_live))
# LIBERO's Panda as well. It brings an OpenCV of its own, which must never be beside that of a sourced ROS.
ROBOT ?=
ifeq ($(ROBOT),panda)
ifdef ROS_DISTRO
$(error ROBOT=panda needs a shell in which no ROS is sourced: LIBERO brings another OpenCV than that of ROS)
endif
EXTRAS := $(EXTRAS),libero
POLICY ?= panda
TASKS ?= libero_object/0 libero_object/3 libero_spatial/0 libero_spatial/8
DEMO := --policy $(POLICY) --tasks $(TASKS) --compare --real-time-factor 1 --out out/demo_panda
else ifneq ($(ROBOT),)
$(error ROBOT=$(ROBOT) is not known: panda, or nothing for the arm of Meta-World)
else
# What pruning buys: more on a larger policy than on the default one.
DEMO := --compare --also medium --require-success
endif
# Rerun, 0.7 GB: tests of the view skip without it.
VIEW ?=
ifneq ($(VIEW),)
EXTRAS := $(EXTRAS),view
DEMO := $(DEMO) --view $(VIEW)
endif
# Further extras of setup.py. int8 is not for everybody: torchao says at its import which of its kernels are not there.
EXTRA ?=
ifneq ($(EXTRA),)
EXTRAS := $(EXTRAS),$(EXTRA)
endif
BIN := $(VENV)/bin
# Its name changes with what was asked for, its age is compared with setup.py: either one installs anew.
INSTALLED := $(VENV)/.installed-$(shell echo '$(TORCH) $(EXTRAS)' | cksum | cut -d ' ' -f 1)

# The core alone: no ROS, no simulator.
VENV_NUMPY1 := .venv-numpy1
INSTALLED_NUMPY1 := $(VENV_NUMPY1)/.installed-$(shell echo '$(TORCH)' | cksum | cut -d ' ' -f 1)
CORE_TESTS := $(addprefix test/test_,$(addsuffix .py,types geometry policy_inputs policy_model checkpoint \
    instruction normalization layers chunks commands action_forms pruning intervals mla_policy mla_checkpoint mla_parity))

export MUJOCO_GL ?= osmesa
# What the nodes of demo and tests say stays on this machine.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: help install demo test lint test-numpy1 bench gpu clean

help:
	@echo 'make demo         set up, then run the simulated robot and the policy node, pruned beside unpruned, with two'
	@echo '                  policies; fails unless every pruned episode is solved: EPISODES=3 KEEP=0.35'
	@echo '                  ROBOT=panda: LIBERO'"'"'s Panda, pruned beside unpruned; installs 2 GB more: POLICY=panda TASKS="..."'
	@echo '                  VIEW=spawn: watched in Rerun, VIEW=FILE.rrd: into a file for it; installs 0.7 GB more'
	@echo 'make test         set up, then lint, type checks and all tests: PYTEST_ARGS="-k geometry"'
	@echo '                  ROS_WHEELS=jazzy: tests of the node with the wheels of ROS Jazzy, in an environment of its own'
	@echo '                  ROBOT=panda VIEW=spawn: installs LIBERO and Rerun, without which the tests of both skip'
	@echo '                  EXTRA=int8 PYTEST_ARGS=test/test_int8.py: with torchao, whose import is noisy in other tests'
	@echo 'make lint         ruff and mypy'
	@echo 'make test-numpy1  tests of the core with numpy 1.26, in an environment of its own'
	@echo 'make bench        latency on this CPU into $(BENCH_OUT): THREADS=2'
	@echo 'make gpu          on a GPU: its tests, latency, agreement with the CPU, success, into $(GPU_OUT): MINUTES=12'
	@echo 'make install      only set up $(VENV) (done by the others when needed)'
	@echo 'make clean        remove the environments, build outputs and caches'
	@echo ''
	@echo 'PYTHON=python3.12       interpreter to set up with, 3.10 to 3.13'
	@echo 'TORCH="torch==2.13.0"   requirement and options for pip, to choose another build of PyTorch;'
	@echo '                        a CUDA build needs several GB'
	@echo 'VENV=DIR                where to set up; with ROS sourced .venv-$$ROS_DISTRO, else .venv'

install: $(INSTALLED)

# Torch goes first and alone, so that nothing else decides which build of it is used.
$(INSTALLED): setup.py setup.cfg package.xml
	@scripts/make_venv.sh '$(PYTHON)' '$(VENV)' $(VENV_FLAGS)
	@PYTHON='$(PYTHON)' scripts/system_libraries.sh
	$(BIN)/pip install --quiet --constraint $(VENV)/constraints.txt $(TORCH)
	$(BIN)/pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: $(INSTALLED)
	$(BIN)/mvla demo --episodes $(EPISODES) --keep $(KEEP) $(DEMO)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(if $(TESTS),$(INSTALLED),lint)
	$(BIN)/python -m pytest --durations=15 $(TESTS) $(PYTEST_ARGS)

$(INSTALLED_NUMPY1): setup.py
	@scripts/make_venv.sh '$(PYTHON)' '$(VENV_NUMPY1)'
	@PYTHON='$(PYTHON)' scripts/system_libraries.sh
	@echo 'numpy<2' > $(VENV_NUMPY1)/constraints.txt
	$(VENV_NUMPY1)/bin/pip install --quiet --constraint $(VENV_NUMPY1)/constraints.txt $(TORCH)
	$(VENV_NUMPY1)/bin/pip install --quiet --constraint $(VENV_NUMPY1)/constraints.txt --editable '.[test]'
	@rm -f $(VENV_NUMPY1)/.installed-*
	@touch $@

test-numpy1: $(INSTALLED_NUMPY1)
	$(VENV_NUMPY1)/bin/python -c 'import numpy; print("numpy", numpy.__version__)'
	$(VENV_NUMPY1)/bin/python -m pytest $(CORE_TESTS)

# The figures of docs/benchmarks/latency.md; on a machine that does nothing else, so that threads may spin between two
# products: see docs/parameters.md#threads.
BENCH_CPU = OMP_WAIT_POLICY=active $(BIN)/mvla bench --threads $(THREADS) --json $(BENCH_OUT)/latency.json
bench: $(INSTALLED)
	$(BENCH_CPU) --preset base --keep 0.5 0.33
	$(BENCH_CPU) --preset base --width 1024 --depth 16 --keep 0.33 --rounds 15
	$(BENCH_CPU) --policy medium --keep 0.5 0.35 0.25 --rounds 66
	$(BENCH_CPU) --policy panda --keep 0.5 0.35 0.25 0.125 --rounds 66
	$(BENCH_CPU) --preset medium --image-size 160 --groups 30 --keep 0.75 0.5 0.35 --rounds 66
	$(BENCH_CPU) --preset base --keep 0.33 --method tri_stage random fastv divprune dart vla_pruner vla_adp specprune vla_cache
	$(BENCH_CPU) --sensor-to-command --seconds 30
	$(BIN)/mvla bench --read $(BENCH_OUT)/latency.json --plot $(BENCH_OUT)/latency.html

# All that needs a GPU, with a CUDA build of torch: make gpu VENV=.venv-gpu TORCH="torch --index-url
# https://download.pytorch.org/whl/cu128". Stopped, it goes on where it was.
gpu: $(INSTALLED)
	$(BIN)/mvla gpu --minutes $(MINUTES) --out $(GPU_OUT)

clean:
	rm -rf .venv .venv-* build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
