GO       ?= go
FUZZTIME ?= 30s
BENCH    ?= .
SCALE    ?= 1
ROUNDS   ?= 3
FAULTS   ?= TestFaults|TestNoSignOfLife
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.DEFAULT_GOAL := help
.PHONY: help build test unit e2e lint demo picture bench fuzz soak reliability deps clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/sshpcap, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/sshpcap ./cmd/sshpcap

test: deps lint unit e2e ## run every check there is; installs what they need when root on Debian

deps:
	@tests/install-deps.sh

# The race detector needs a C compiler. What is allocated can be counted without it only. The scripts of remote are tested
# alone: they count seconds, in shells that make thousands of processes.
unit: ## run the unit tests, with the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 10m $$($(GO) list ./... | grep -v -e /tests -e /remote$$)
	CGO_ENABLED=1 $(GO) test -race -timeout 10m ./remote
	$(GO) test -run Allocates ./merge

# Most of a test is waiting, so more of them run at once than there are CPUs. -count=1: what they test is not what Go's
# cache knows of.
e2e: build ## run the end-to-end tests of bin/sshpcap (root)
	SSHPCAP=$(CURDIR)/bin/sshpcap $(GO) test -count=1 -parallel 8 -timeout 10m ./tests/...

lint: ## check format, vet, staticcheck, direction of imports, known vulnerabilities
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt -w $$out" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -run 'TestImportDirection|TestOnlyCommandsTalk|TestNoProgramIsRun|TestSecurityTable' ./tests
	@GO='$(GO)' tests/vulncheck.sh

demo: build ## capture on three built-in instances into demo.pcapng
	bin/sshpcap demo --overwrite -o demo.pcapng

picture: build ## draw docs/terminal.svg, what the README shows, of a real run of the demo
	$(GO) run ./tests/picture

bench: build ## print the tables of docs/performance.md, beside the peers that are installed
	$(GO) run ./tests/bench -tables merge -scale $(SCALE)
	$(GO) run ./tests/bench -tables live
	$(GO) run ./tests/bench -tables scale -runs 3
	SSHPCAP=$(CURDIR)/bin/sshpcap $(GO) test -run '^$$' -bench 'Fast|Latency' -benchtime 3x ./tests
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./merge ./files ./capture ./sshx

fuzz: ## run every fuzz test for FUZZTIME (30s) each
	tests/fuzz.sh $(FUZZTIME)

# Each round brings the faults about in another order, whose seed it prints.
soak: build ## bring every fault about for as long as in life, ROUNDS (3) times; about 3 minutes each (root)
	SSHPCAP_SOAK=1 SSHPCAP=$(CURDIR)/bin/sshpcap $(GO) test -count=$(ROUNDS) -parallel 16 -timeout 60m -v -run '$(FAULTS)' ./tests

reliability: build ## the same once, and make the tables of docs/reliability.md of it (root)
	SSHPCAP_SOAK=1 SSHPCAP=$(CURDIR)/bin/sshpcap $(GO) test -count=1 -parallel 16 -timeout 15m -run '$(FAULTS)' ./tests -update-reliability

clean: ## remove what make has made
	rm -rf bin demo.pcapng
