# `make check` is what a change must pass. The other targets are its parts.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# The library, and the commands, which are modules of their own.
MODULES := . $(patsubst %/go.mod,%,$(wildcard cmd/*/go.mod bench/go.mod compat/go.mod))
# Counted, not timed: a timed run may end in "context deadline exceeded" with nothing found.
FUZZTIME ?= 2000x
LINT := go tool -modfile=$(CURDIR)/tools/go.mod golangci-lint

.PHONY: check format vet lint test fuzz
check: format vet lint test fuzz

format:
	@unformatted=$$(gofmt -l .); [[ -z $$unformatted ]] || { echo "run gofmt -w on:" $$unformatted; exit 1; }

vet:
	@for module in $(MODULES); do echo "go vet: $$module"; go -C $$module vet ./...; done

lint:
	@for module in $(MODULES); do echo "golangci-lint: $$module"; (cd $$module && $(LINT) run ./...); done

test:
	@for module in $(MODULES); do go -C $$module test -race -shuffle=on ./...; done

# Each target for FUZZTIME. Targets are found, not listed; seeds run with the tests anyway.
fuzz:
	@for module in $(MODULES); do \
	  targets=$$(go -C $$module test -list '^Fuzz' ./... | awk '/^Fuzz/ {name[n++] = $$1} $$1 == "ok" {while (n > 0) print $$2, name[--n]}'); \
	  while read -r package target; do \
	    [[ -n $$target ]] || continue; \
	    echo "fuzz: $$package $$target"; \
	    go -C $$module test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package </dev/null; \
	  done <<< "$$targets"; \
	done
