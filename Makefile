# The one front door. `make` lists the targets.
#
# What is built goes to target/; kernels, images and the lab's machine are kept in ~/.cache/drupe (DRUPE_CACHE),
# so that another checkout does not build them again.

PREFIX ?= /usr/local
DESTDIR ?=
DIST := target/dist

# The build's own settings hold, in .cargo/config.toml: static programs, in target/.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR CARGO_BUILD_TARGET

# Names this build: runtime and agent refuse each other when theirs differ.
export DRUPE_BUILD := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)$(shell git describe --always --dirty --exclude '*' 2>/dev/null | sed 's/^/+/')

# Where cargo puts binaries; asked for in recipes, since there may be no Rust before `setup`.
RELEASE = target/$$(rustc -vV | sed -n 's/^host: //p')/release

.DEFAULT_GOAL := help
.PHONY: help setup build demo check test conformance fuzz fuzz-smoke budget soak bench install clean as-root

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## install the Debian packages that are missing
	@lab/setup

build: setup ## build runtime, agent and guest kernel into target/dist
	@echo "building drupe $$DRUPE_BUILD" >&2
	@cargo build --release -p drupe -p drupe-agent
	@mkdir -p $(DIST)/bin $(DIST)/lib/drupe
	@install -m 755 $(RELEASE)/drupe $(DIST)/bin/drupe
	@images/initramfs/build $(RELEASE)/drupe-agent $(DIST)/lib/drupe/initramfs >/dev/null
	@install -m 644 "$$(guest-kernel/build)" $(DIST)/lib/drupe/vmlinux
	@cargo run --quiet --release -p drupe --example man -- $(DIST)/share/man/man1

demo: build ## run a container in its own virtual machine, in the lab where /dev/kvm cannot
	@images/demo $(DIST)

check: setup ## formatting, lints, and all tests that need no Linux guest
	@lab/setup check
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@cargo test --workspace --exclude drupe --exclude drupe-vmm
	@cargo test -p drupe --lib --bins --test cli --test plan --test house --test schema --test seccomp
	@cargo test -p drupe-vmm --doc
	@cargo test -p drupe-vmm --no-run
	@lab/kvm --flat -- cargo test -p drupe-vmm --lib --tests

test: as-root check build ## all tests: those of check, then real containers in real virtual machines, filesystems, podman and containerd
	@lab/test
	@guest-kernel/smoke $(DIST)/lib/drupe/vmlinux
	@runtime/tests/run $(DIST)
	@DRUPE_TEST_RUNTIMES=drupe runtime/tests/run-filesystem $(DIST)
	@runtime/tests/run-clients $(DIST)

conformance: as-root build ## the shared filesystem beside the host's own: pjdfstest, fsx, power cuts
	@DRUPE_TEST_SCALE=full runtime/tests/run-filesystem $(DIST)

fuzz: ## fuzz the file server of the shared filesystem for SECONDS, 600 if not given
	@fuzz/run fuse $(or $(SECONDS),600)

fuzz-smoke: ## fuzz each target for a minute
	@fuzz/run all 60

budget: as-root build ## fail when the shared filesystem takes more requests than benches/budgets.json allows
	@benches/fs $(DIST) --budget

soak: budget ## the budget, and the container tests with larger counts
	@DRUPE_TEST_SCALE=soak runtime/tests/run $(DIST)
	@DRUPE_TEST_SCALE=soak runtime/tests/run-filesystem $(DIST)

as-root:
	@test "$$(id -u)" = 0 || { echo "the container tests need root: sudo make test" >&2; exit 77; }

bench: as-root build ## measure start-up beside runc, then the shared filesystem beside QEMU with virtiofsd
	@benches/run $(DIST)
	@benches/fs $(DIST)

$(DIST)/lib/drupe/vmlinux:
	@$(MAKE) build

install: $(DIST)/lib/drupe/vmlinux ## put what was built below PREFIX (default /usr/local), or DESTDIR/PREFIX
	@install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/drupe" "$(DESTDIR)$(PREFIX)/share/man/man1"
	@install -m 755 $(DIST)/bin/drupe "$(DESTDIR)$(PREFIX)/bin/drupe"
	@install -m 644 $(DIST)/lib/drupe/vmlinux $(DIST)/lib/drupe/initramfs "$(DESTDIR)$(PREFIX)/lib/drupe/"
	@install -m 644 $(DIST)/share/man/man1/* "$(DESTDIR)$(PREFIX)/share/man/man1/"
	@echo "installed below $(DESTDIR)$(PREFIX): bin/drupe, lib/drupe/{vmlinux,initramfs}, share/man/man1" >&2

clean: ## remove what was built in this checkout
	@rm -rf target
