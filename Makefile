# Short names for tools/bootstrap.py, which does the work and needs no make.
# More arguments for pytest or the demo: make test ARGS="-k tiling"

PYTHON ?= python3
RUN = @$(PYTHON) tools/bootstrap.py

.DEFAULT_GOAL := help
.PHONY: help demo test install lint clean
.NOTPARALLEL:

help:
	$(RUN) --help

demo test:
	$(RUN) $@ $(if $(ARGS),-- $(ARGS))

install lint clean:
	$(RUN) $@
