# The verbs. `make` alone explains them.
.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

BUF := .tools/python/bin/buf
SERVICES := -p obscura -p obscura-keys -p obscura-audit -p obscura-registry -p obscura-storage -p obscura-ingest \
	-p obscura-demo-camera

.PHONY: help run build need need-test test test-garage lint lint-rust lint-proto lint-dependencies unit journeys \
	vectors generate fuzz ocsf soak bench-record bench-seal bench-start bench-index bench-shred bench-audit

help: ## Explain the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

run: build ## Build, start everything with a camera, say what to try (VIDEO=clip.mp4 or RTSP=rtsp://... for real footage)
	@target/release/obscura demo $(if $(VIDEO),--video "$(VIDEO)") $(if $(RTSP),--rtsp "$(RTSP)") $(ARGS)

build: need ## Build every service, optimised
	cargo build --release $(SERVICES)

need:
	@tools/need.sh run

need-test:
	@tools/need.sh test

test: need-test lint unit vectors ocsf journeys ## Everything that must hold: lints, unit and property tests, journeys against real servers

lint: lint-rust lint-proto lint-dependencies ## Formatting, clippy, buf, licences and banned crates

lint-rust:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

lint-proto:
	cd proto && ../$(BUF) lint
	cd proto && ../$(BUF) breaking --against baseline.binpb

lint-dependencies:
	.tools/bin/cargo-deny --log-level error check bans licenses sources

unit:
	cargo test --workspace --locked --exclude obscura-journeys

vectors:
	.tools/python/bin/python tests/vectors/check_vectors.py

ocsf:
	cargo run --locked -q -p obscura-ocsf --example leaves | .tools/python/bin/python tests/ocsf/check.py

journeys:
	cargo build --locked $(SERVICES) -p obscura-load-tests
	cargo test --locked -p obscura-journeys

test-garage: ## The contract of object stores against Garage, which is built first (some minutes, once)
	tools/need.sh garage
	cargo test --locked -p obscura-blob --test garage -- --ignored

generate: need-test ## Accept the protos as they are as the new baseline, and write the catalogue of audit events
	cd proto && ../$(BUF) build -o baseline.binpb
	cargo run --locked -q -p obscura-ocsf --example catalogue

fuzz: ## Run every fuzz target for FUZZ_SECONDS (60) each
	tools/fuzz.sh $(or $(FUZZ_SECONDS),60)

bench-seal: ## Seal and open per core beside raw AES-256-GCM
	cargo run --release -q -p obscura-load-tests --bin bench_seal

bench-record: build ## CPU and memory per stream beside one ffmpeg per camera (STREAMS=100)
	tools/need.sh test
	cargo build --release -q -p obscura-load-tests
	target/release/bench_record --streams $(or $(STREAMS),100)

bench-index: ## Queries over 10 million segments in SQLite and PostgreSQL (SEGMENTS=650000000 for the goal's size)
	tools/need.sh test
	cargo run --release -q -p obscura-load-tests --bin bench_index -- --segments $(or $(SEGMENTS),10000000)

bench-shred: ## Early destruction and expiry beside overwriting the same footage
	tools/need.sh test
	cargo run --release -q -p obscura-load-tests --bin bench_shred

bench-audit: ## Appends per second beside raw fdatasync, and offline verification of a million entries
	tools/need.sh test
	cargo run --release -q -p obscura-load-tests --bin bench_audit

soak: build ## Pull plugs in random order for MINUTES (30), then account for every second (ARGS=--back-ends over PostgreSQL and S3)
	tools/need.sh test
	cargo build --release -q -p obscura-load-tests
	target/release/soak --minutes $(or $(MINUTES),30) $(ARGS)

bench-start: build ## Seconds from `obscura up` to the first acknowledged segment
	cargo build --release -q -p obscura-load-tests
	target/release/bench_start
