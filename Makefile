# Two commands matter: `make run` and `make test`. `make help` lists the rest.

TARGET := $(or $(CARGO_TARGET_DIR),target)
STEP   := tests/tools/step.sh

.DEFAULT_GOAL := help
.PHONY: help run test check bench conformance clients cluster update tools

help: ## Lists the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 16

run: ## Builds the gateway (release) and starts it on 127.0.0.1:8080
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler (cc) is missing: apt-get install gcc libc6-dev, dnf install gcc," \
	  "or xcode-select --install" >&2; exit 1; }
	cargo build --release --locked --bin portico
	@exec $(TARGET)/release/portico serve

test: ## Installs what the tests need, then runs everything that CI runs
	@$(STEP) "install tools" tests/tools/install.sh
	@$(MAKE) --no-print-directory check
	@$(STEP) "cargo test" cargo test --workspace --locked
	@$(MAKE) --no-print-directory conformance
	@$(MAKE) --no-print-directory clients
	@$(STEP) "client tests" clients/run.sh
	@$(STEP) "README" tests/readme.sh
	@$(STEP) "operate guide" tests/operate.sh
	@$(STEP) "deploy files" tests/deploy.sh
	@$(STEP) "cluster" deploy/cluster.sh --once

check: ## Checks format, lints and contracts, exactly as CI does
	@$(STEP) "rustfmt" cargo fmt --all --check
	@$(STEP) "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(STEP) "lock of the peers" sh -c 'cargo metadata --locked --format-version 1 --manifest-path benches/peers/Cargo.toml >/dev/null'
	@tests/tools/node.sh
	@$(STEP) "buf lint" buf lint
	@$(STEP) "buf breaking" tests/tools/breaking.sh

bench: ## Measures the gateway beside its peers
	@benches/run

cluster: ## Builds and starts it all on this machine: PostgreSQL, Redis, MinIO, two gateways, three coordinators
	cargo build --release --locked --bin portico
	@PORTICO_BIN=$(TARGET)/release/portico deploy/cluster.sh

conformance: ## Runs the official Connect and protobuf conformance suites, and h2spec
	@$(STEP) "Connect conformance" tests/conformance/connect.sh
	@$(STEP) "protobuf conformance" tests/conformance/protobuf.sh
	@$(STEP) "HTTP/2 conformance" tests/conformance/h2spec.sh

clients: ## Generates the TypeScript and Go clients from proto/ and builds them
	@tests/tools/node.sh
	@bash -c 'source tests/tools/env.sh; tests/tools/go.sh "$$PROTOC_GEN_GO" "$$PROTOC_GEN_CONNECT_GO" "$$PROTOC_GEN_GO_GRPC"'
	@$(STEP) "generate clients" buf generate
	@$(STEP) "build TypeScript client" npm --prefix clients/ts run --silent build
	@$(STEP) "build Go client" go -C clients/go vet ./...

update: ## Regenerates the documents that are checked in
	@$(STEP) "update" env PORTICO_UPDATE=1 cargo test --locked --package portico --test main documents

tools: ## Installs what the tests need beside Rust
	@$(STEP) "install tools" tests/tools/install.sh
