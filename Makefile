# What people type. The work is done by cargo, scripts/ and interop/.
#   make dev ARGS='--blocks 20'      make interop ARGS='one- net4'      make bench ARGS='--validators 10'

export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup dev build test bench interop lint

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what is missing to build (every target does this first)
	@scripts/setup

dev: build ## networks on this machine: validators that sign through Semel, pools that its aggregator certifies
	@$(TARGET)/release/semel dev $(ARGS)

build: setup ## the release binary
	@cargo build --release --locked --package semel

test: ## every check there is; the last line counts them
	@scripts/setup tests
	@scripts/test $(ARGS)

bench: build ## our speed beside tmkms's, in one run; writes target/bench/
	@interop/peers get tmkms-0.15.0 || true
	@mkdir -p target/bench
	@tmkms=$$(interop/peers find tmkms-0.15.0) && set -- --against "$$tmkms/bin/tmkms start -c {config}"; \
	  exec $(TARGET)/release/semel kms bench --dir target/bench --report target/bench "$$@" $(ARGS)

interop: build ## real nodes of every version with Semel as their signer
	@interop/run $(ARGS)

lint: setup ## formatting, clippy, documentation
	@scripts/test fmt clippy doc map
