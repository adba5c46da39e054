# make demo   sets everything up and runs the demo      make test   sets everything up and runs all tests
# Variables:  EPISODES (per task) and KEEP (keep ratio) for the demo; TORCH to choose another build of torch,
#             e.g. TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
TORCH ?= torch==2.13.0
EPISODES ?= 3
KEEP ?= 0.5
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# With ROS sourced its rclpy is used; without, the ros-* wheels. Mixing the two breaks both.
ifdef ROS_DISTRO
VENV_FLAGS := --system-site-packages
EXTRAS := sim,train,test
else
VENV_FLAGS :=
EXTRAS := sim,train,pip-ros,test
endif

export MUJOCO_GL ?= osmesa
# DDS traffic of demo and tests stays on this machine.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: help demo test lint setup clean
help:
	@sed -n '1,3s/^# //p' Makefile

demo: setup
	$(BIN)/mvla demo --episodes $(EPISODES) --keep $(KEEP)

test: lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(STAMP)

$(STAMP): setup.py
	scripts/system_libraries.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools<80" wheel
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) out build install log *.egg-info
