# Short names for tools/bootstrap.py, which does the work and needs no make.
# More arguments for pytest, the demo or the benchmark: make test ARGS="-k tiling"

PYTHON ?= python3
RUN = @$(PYTHON) tools/bootstrap.py

.DEFAULT_GOAL := help
.PHONY: help demo test bench install lint clean
.NOTPARALLEL:

help:
	$(RUN) --help

demo test bench:
	$(RUN) $@ $(if $(ARGS),-- $(ARGS))

install lint clean:
	$(RUN) $@
