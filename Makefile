# make demo: everything from a fresh machine to a comparison. make test: everything from a fresh machine to all tests.

KERNEL ?= /usr/src/linux-source-6.12.tar.xz
BOOTS ?= 6
# How the guests of the demo run. `sim` gives numbers that no load changes; `make demo ACCEL=auto` is in real time.
ACCEL ?= sim
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),$(CURDIR)/target))
VENV := $(CURDIR)/.venv
export PATH := $(TARGET)/debug:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.PHONY: help setup build kernel demo picture test lab notebook check-report docs test-sim check fuzz bench bench-observing bench-comparison bench-scale bench-rate bench-validity install

help:
	@echo "make demo     install what is missing, build, get a kernel, compare two schedulers"
	@echo "make test     the same set-up, then all tests"
	@echo "make lab      the VMM and the demo on an emulated KVM, for machines without a usable one"
	@echo "make docs     the book in target/book, and the tests of all pages"
	@echo "make check-report  a report in a browser"
	@echo "make check    formatting and lints"
	@echo "make fuzz     hostile guests and files for the VMM's parsers, SECONDS=600 for each of nine targets"
	@echo "make bench    what the probes cost, how long a boot takes beside QEMU's, how far a comparison can be trusted"
	@echo "              (bench-comparison: the last alone; bench-scale: what a run of 20 million slices costs on the host;"
	@echo "              bench-validity: how well sim agrees with parallel CPUs)"
	@echo "make install  install cargo-ktstr and its guest agent"

setup:
	@./setup/install.sh

# The whole workspace at once: parts of it would give polars other features and compile it again.
build: setup
	cargo build --workspace --all-targets

# What guests run on: a kernel, and the emulator of `--accel sim`. Both are built once.
kernel: build
	cargo ktstr emulator build
	cargo ktstr kernel build $(KERNEL)

demo: kernel
	cargo ktstr test --kernel $(KERNEL) --accel $(ACCEL) --scheduler eevdf --repeat $(BOOTS) -- -E 'binary(demo)'
	cargo ktstr test --kernel $(KERNEL) --accel $(ACCEL) --scheduler scx_fixture --repeat $(BOOTS) -- -E 'binary(demo)'
	cargo ktstr stats compare --a-scheduler eevdf --b-scheduler scx_fixture || [ $$? = 1 -o $$? = 3 ]
	cargo ktstr stats

# Draws docs/demo.svg from the runs of the demo. The output that README shows is that of `make demo`, shortened.
picture: $(VENV)/ready
	$(VENV)/bin/python notebooks/demo_picture.py $(TARGET)/ktstr

# KERNEL is a source where the probes are tested under its own schedulers, which lie in one directory with that of this workspace.
WITH_SCHEDULERS = image=$$(cargo ktstr kernel build $(KERNEL) | cut -d' ' -f2) && \
  schedulers=$$(setup/schedulers.sh $(KERNEL) "$$(dirname "$$image")") && \
  rm -rf $(TARGET)/schedulers && mkdir $(TARGET)/schedulers && \
  ln -s "$$schedulers"/* $(TARGET)/debug/scx_fixture $(TARGET)/schedulers && \
  KTSTR_TEST_KERNEL=$$image KTSTR_SCHEDULER_DIR=$(TARGET)/schedulers

test: kernel
	cargo fmt --all --check
	$(WITH_SCHEDULERS) cargo ktstr test --kernel $(KERNEL) -- --no-fail-fast
	cargo test --workspace --doc -q
	$(MAKE) notebook

# What CI runs in guests for each change: the demo, the examples, and the commands of README and the book.
test-sim: kernel
	KTSTR_TEST_KERNEL=$$(cargo ktstr kernel build $(KERNEL) | cut -d' ' -f2) cargo ktstr test --kernel $(KERNEL) --accel sim \
	  -- --no-fail-fast -E 'binary(demo) | package(/^example-/) | binary(pages) | binary(commands)'

# Our own VMM end to end: all its tests, and the demo suite with --accel kvm. Takes minutes.
lab: kernel
	KTSTR_TEST_KERNEL=$$(cargo ktstr kernel build $(KERNEL) | cut -d' ' -f2) cargo nextest run --workspace --run-ignored all \
	  -E '(package(ktstr-vmm) & binary(kvm) & test(selection)) | (package(ktstr-tests) & binary(lab))'

NOTEBOOKS = 01_run_overview 02_compare_schedulers 03_why_did_it_wait

# Runs the notebooks on the runs that the tests made, and recomputes a comparison with scipy.
notebook: $(VENV)/ready kernel
	for scheduler in eevdf scx_fixture; do \
	  cargo ktstr test --kernel $(KERNEL) --accel sim --scheduler $$scheduler --repeat 3 -- -E 'binary(demo) & test(1llc)' || exit; done
	cargo ktstr stats compare --a-scheduler eevdf --b-scheduler scx_fixture --accel sim --test demo::demo_1llc --all --json \
	  > $(TARGET)/comparison.json || [ $$? = 1 -o $$? = 3 ]
	$(VENV)/bin/python notebooks/check_comparison.py $(TARGET)/comparison.json $(TARGET)/ktstr
	$(VENV)/bin/python notebooks/check_tables.py $(TARGET)/ktstr
	$(VENV)/bin/python notebooks/check_trace.py $(TARGET)/ktstr
	for name in $(NOTEBOOKS); do KTSTR_RUNS=$(TARGET)/ktstr \
	  $(VENV)/bin/jupyter execute --output=$(TARGET)/ktstr/$$name.ipynb notebooks/$$name.ipynb || exit 1; done

# Uses a report of the last session in a browser: apt-get install chromium
check-report: $(VENV)/ready
	$(VENV)/bin/pip install -q playwright==1.65.2
	$(VENV)/bin/python notebooks/check_report.py $(TARGET)/ktstr

$(VENV)/ready: notebooks/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r notebooks/requirements.txt
	touch $@

# A warning of mdBook is a broken page.
docs: setup
	command -v mdbook >/dev/null || cargo install --locked mdbook
	mkdir -p $(TARGET) && mdbook build docs --dest-dir $(TARGET)/book 2>&1 | tee $(TARGET)/book.log && ! grep -q WARN $(TARGET)/book.log
	cargo build --workspace --all-targets
	cargo nextest run --workspace -E 'binary(pages)'

check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# How long each fuzz target runs.
SECONDS ?= 600

fuzz: setup
	vmm/fuzz/run $(SECONDS)

# The other tools are measured where they are installed: apt-get install linux-perf libbpf-tools bpftrace
bench: kernel
	kernel=$$(cargo ktstr kernel build $(KERNEL) | cut -d' ' -f2) && \
	  probe-cost --kernel "$$(dirname "$$kernel")/vmlinux" && boot-cost --kernel "$$kernel"
	cargo ktstr test --kernel $(KERNEL) --scheduler eevdf --repeat 3 -- -E 'test(sched_basic_message)' -j1
	cargo ktstr stats
	KTSTR_TEST_KERNEL=$$(cargo ktstr kernel build $(KERNEL) | cut -d' ' -f2) cargo bench -p ktstr-vmm --bench throughput
	$(MAKE) bench-observing
	$(MAKE) bench-comparison

# What observing changes in the numbers that workloads measure themselves, on boots of the same seeds.
bench-observing: kernel
	for probes in off summary full; do \
	  cargo ktstr test --kernel $(KERNEL) --probes $$probes --repeat 6 \
	    -- --run-ignored ignored-only -E 'binary(observing) & !test(gauntlet) & !test(long_hackbench)' || exit 1; \
	done
	for probes in summary full; do \
	  cargo ktstr stats compare --a-probes off --b-probes $$probes --accel sim || [ $$? = 1 -o $$? = 3 ]; \
	done

# How far a comparison can be trusted: on synthetic boots, and on real ones that are alike.
bench-comparison: kernel
	cargo build --workspace --example comparison
	$(TARGET)/debug/examples/comparison power
	$(TARGET)/debug/examples/comparison boots-needed
	for accel in tcg sim; do \
	  cargo ktstr test --kernel $(KERNEL) --accel $$accel --scheduler scx_fixture --repeat 24 \
	    -- -E 'test(sched_basic_message)' -j1 || exit 1; \
	done
	$(TARGET)/debug/examples/comparison false-alarms $(TARGET)/ktstr

# What a long run costs on the host: 20 million slices converted, and their metrics beside the same queries in DuckDB. Optimized, which
# compiles polars once more.
bench-scale: setup $(VENV)/ready
	cargo build --release --workspace --example scale
	$(TARGET)/release/examples/scale log $(TARGET)/scale 20
	$(TARGET)/release/examples/scale convert $(TARGET)/scale
	$(TARGET)/release/examples/scale metrics $(TARGET)/scale
	$(VENV)/bin/python notebooks/scale_duckdb.py $(TARGET)/scale
	rm -r $(TARGET)/scale

# Switches on four CPUs as fast as they come, for half a minute of the guest's time, virtual and real: what is kept, and what agrees.
# What a slice of hackbench takes on disk. A quarter of an hour.
bench-rate: kernel
	$(WITH_SCHEDULERS) cargo ktstr test --kernel $(KERNEL) -- --run-ignored ignored-only --no-capture -E 'binary(rate)'

# How well `sim` agrees with parallel CPUs: ten workloads under seven schedulers and settings, once in `sim` and three times in `tcg`, whose
# boots alternate. `tcg` needs two idle CPUs. 40 minutes.
SETTINGS = --scheduler eevdf --scheduler scx_simple --scheduler "scx_simple -f" --scheduler scx_qmap --scheduler scx_flatcg \
  --scheduler scx_fixture --scheduler "scx_fixture --slice-us 1000"
VALIDITY = cargo ktstr test --kernel $(KERNEL) $(SETTINGS)

bench-validity: kernel
	cargo build --workspace --example validity
	$(WITH_SCHEDULERS) sh -c 'for run in "sim 0" "tcg 0" "tcg 1" "tcg 2"; do set -- $$run; \
	  KTSTR_FIRST_REPEAT=$$2 $(VALIDITY) --accel $$1 -- --run-ignored ignored-only --no-fail-fast -j1 -E "binary(validity)" \
	    || [ $$? = 1 -o $$? = 3 ] || exit 1; done'
	$(TARGET)/debug/examples/validity $(TARGET)/ktstr

install: setup
	cargo install --path runner
