# Inkan. `make demo` needs Go, make and git; `make test` installs the rest.

GO        ?= go
FUZZTIME  ?= 4000x
SUDO      := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
HAVE_PCSC := $(shell pkg-config --exists libpcsclite 2>/dev/null && echo yes)
DEBS      := gcc libc6-dev pkg-config libpcsclite-dev pcscd libpcsclite1 vsmartcard-vpcd pcsc-tools \
             opensc yubico-piv-tool ykcs11 softhsm2 openssl procps libnss3 openssh-client openssh-server \
             libengine-pkcs11-openssl curl postgresql haproxy

.PHONY: build demo test deps lint unit real nocgo fuzz race bench cover clean

# build makes bin/inkan: with PC/SC readers and PKCS#11 where their headers are.
build:
ifeq ($(HAVE_PCSC),yes)
	$(GO) build -trimpath -o bin/inkan ./cli/inkan
else
	@echo "PC/SC headers (libpcsclite-dev) are missing: building without readers and PKCS#11."
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/inkan ./cli/inkan
endif

# demo tells the life of a card on the embedded parts; no system package is needed.
demo:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/inkan ./cli/inkan
	./bin/inkan demo

# test installs the real parts and runs everything.
test: deps lint real nocgo fuzz

# deps installs them. A test runs an sshd of its own: one that was not there before is
# not to serve the machine from now on.
deps:
	$(SUDO) apt-get update -q
	@had=$$(test -x /usr/sbin/sshd && echo yes); \
	echo "apt-get install $(DEBS)"; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $(DEBS) && \
	{ [ "$$had" ] || $(SUDO) systemctl disable --now ssh >/dev/null 2>&1 || true; }

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	CGO_ENABLED=0 GOOS=windows $(GO) build -o /dev/null ./cli/inkan
	CGO_ENABLED=0 GOOS=darwin $(GO) build -o /dev/null ./cli/inkan

# unit needs no root, no service and no network.
unit:
	$(GO) test ./...

# real runs every test, also those that drive pcscd, SoftHSM, OpenSC and openssl:
# a missing part is a failure. It shows the results and the numbers that tests count,
# and after a failure what the failing packages printed. The longest packages begin,
# what tests write is in memory if it fits, and `make lint` has vetted them.
LONGEST := ./tps ./cli ./cli/server
real: SHELL := /bin/bash
real:
	@echo "INKAN_REAL=1 $(GO) test ./..."; dir=$$(.ci/scratch) || exit 1; trap 'rm -rf "$$dir"' EXIT; log=$$dir/log; set -o pipefail; \
	TMPDIR=$$dir INKAN_REAL=1 $(GO) test -vet=off -v $(LONGEST) ./... 2>&1 | tee $$log | grep -a --line-buffered -E '^(cuts|chaos|array|ok|FAIL|--- FAIL|panic:)'; rc=$$?; \
	[ $$rc = 0 ] || grep -avE '^ *(=== (RUN|PAUSE|CONT)|--- (PASS|SKIP)|ok )' $$log; exit $$rc

# nocgo tests what is another code without cgo, runs the scripts of the program without
# it, and shows that every package and test builds so.
nocgo: SHELL := /bin/bash
nocgo:
	CGO_ENABLED=0 $(GO) vet ./...
	@dir=$$(.ci/scratch) || exit 1; trap 'rm -rf "$$dir"' EXIT; export TMPDIR=$$dir CGO_ENABLED=0; set -ex; \
	$(GO) test -vet=off ./cli ./cli/station ./pcsc/... ./tks/hsm/... ; \
	$(GO) test -vet=off -run 'Makers|Attestation' ./cli/server

# fuzz runs every target for FUZZTIME: a count, because a duration can end a sound target
# with "context deadline exceeded" (go.dev/issue/75804). A package is built once for all its
# targets, and as many packages run as there are processors, each with one worker.
fuzz:
	@bin=$$(mktemp -d); trap 'rm -rf '$$bin EXIT; git grep -l '^func Fuzz' -- '*_test.go' | xargs -n 1 dirname | sort -u | \
	GO='$(GO)' BIN=$$bin FUZZTIME=$(FUZZTIME) xargs -P "$$(nproc)" -n 1 .ci/fuzz

race:
	$(GO) test -race ./...

# bench measures the product in about three minutes and prints key=value lines; it
# fails where an aim is missed. INKAN_BENCH_PROFILE=DIR keeps the profiles of its nodes.
bench: deps
	$(GO) test -c -o bin/bench.test ./cli/bench
	@INKAN_BENCH=1 bin/bench.test -test.run '^TestBench$$'

cover:
	$(GO) test -cover ./...

clean:
	rm -rf bin
