# attnd: builds the daemon (build/attnd), the tools (build/attn) and the tests (build/run_tests).
#
# make FLAVOUR=asan|tsan|coverage builds into build/FLAVOUR with that instrumentation; V=1 shows commands.

FLAVOUR := release
CC      := gcc
PREFIX  := /usr/local
# Python looks there by itself where PREFIX is /usr; elsewhere PYTHONPATH must name the folder.
PYTHON_DIR := $(PREFIX)/lib/python3/dist-packages/attnd
VERSION := 0.1.0
JOBS    := $(shell nproc)

ifeq ($(FLAVOUR),tsan)
CC := clang
endif

PACKAGES := libzmq yaml-0.1 jansson libmicrohttpd ncursesw
BLAS     := openblas

OPT_release  := -O2 -g
OPT_asan     := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
OPT_tsan     := -O1 -g -fsanitize=thread
OPT_coverage := -O0 -g --coverage
OPT_fuzz     := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined

WARN := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
        -Wwrite-strings -Wformat=2 -Wno-unused-parameter
CFLAGS  := -std=c11 -D_GNU_SOURCE -DATTND_VERSION='"$(VERSION)"' $(OPT_$(FLAVOUR)) $(WARN) -fopenmp -MMD -MP \
           -Ilib -I. $(shell pkg-config --cflags $(PACKAGES) $(BLAS) 2>/dev/null)
LDLIBS  := $(shell pkg-config --libs $(PACKAGES) $(BLAS) 2>/dev/null) -lm -lpthread
LDFLAGS := $(OPT_$(FLAVOUR)) -fopenmp

# How tests run in each flavour. Thread sanitizer: clang's OpenMP tells of its barriers through archer; libzmq and libgomp are
# not instrumented, tests/tsan.supp names the one library that is left out.
RUN_tsan := TSAN_OPTIONS="ignore_noninstrumented_modules=1 suppressions=tests/tsan.supp second_deadlock_stack=1" \
            OMP_TOOL_LIBRARIES=$(firstword $(wildcard /usr/lib/llvm-*/lib/libarcher.so))
RUN_asan := ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1

ifeq ($(FLAVOUR),release)
B := build
else
B := build/$(FLAVOUR)
endif
O := $(B)/obj

LIB_SRC    := $(sort $(wildcard lib/*/*.c lib/*/*/*.c))
WORKER_SRC := $(sort $(wildcard workers/*.c))
DAEMON_SRC := $(sort $(wildcard daemon/*.c))
TOOL_SRC   := $(sort $(wildcard tools/*.c tools/*/*.c))
TEST_SRC   := $(sort $(wildcard tests/*.c tests/lib/*/*.c tests/lib/*/*/*.c tests/workers/*.c tests/daemon/*.c tests/tools/*.c tests/tools/*/*.c tests/e2e/*.c))
FUZZ_SRC   := $(sort $(wildcard tests/fuzz/fuzz_*.c))

obj = $(patsubst %.c,$(O)/%.o,$(1))

LIBRARY := $(B)/libattnd.a
# The daemon without its main: for tests and tools that run it inside their own process (inproc).
DAEMON_LIB := $(filter-out daemon/main.c,$(DAEMON_SRC))
TOOL_LIB   := $(filter-out tools/attn.c,$(TOOL_SRC))

ifeq ($(V),1)
Q :=
else
Q := @
endif

.PHONY: all help deps demo test check arm64 lint format bench install uninstall clean fuzz FORCE

## all: build the daemon, the tools and the tests
all: $(B)/attnd $(B)/attn $(B)/run_tests

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

# Targets that a fresh machine starts with install first and then call make again, so that pkg-config answers.
## demo: install what is missing, build, start the daemon, run two language models through it, stop it
demo:
	@tools/deps build
	@$(MAKE) -j$(JOBS) --no-print-directory $(B)/attnd $(B)/attn
	@tools/demo $(B)

## test: install what is missing, build, run all tests
test:
	@tools/deps build test
	@$(MAKE) -j$(JOBS) --no-print-directory all
	@$(MAKE) --no-print-directory check

## check: build and run all tests (ONLY=part of a suite's name: some), without installing anything
check: all
	$(Q)$(RUN_$(FLAVOUR)) ATTND_BIN=$(B)/attnd ATTN_BIN=$(B)/attn $(B)/run_tests $(ONLY)

## arm64: the tests of kernels and attention on NEON, under an emulator
arm64:
	@tools/deps arm64
	@tests/arm64/run

## lint: layer law, formatting, clang-tidy, cppcheck
lint:
	@tools/deps build lint
	@tools/lint

## format: lay out the sources as .clang-format says
format:
	clang-format -i $(shell git ls-files '*.c' '*.h')

## bench: kernels and pipeline beside the machine's limits, as JSON lines in $(B)/bench.jsonl and drawn in $(B)/bench.svg
bench:
	@tools/deps build bench
	@$(MAKE) --no-print-directory $(B)/attnd $(B)/attn
	@{ $(B)/attn bench kernels --json && $(B)/attn bench pipeline --json; } >$(B)/bench.jsonl || { cat $(B)/bench.jsonl; exit 1; }
	@cat $(B)/bench.jsonl
	@$(B)/attn bench plot --results $(B)/bench.jsonl --plot $(B)/bench.svg

## fuzz: run each fuzz target for SECONDS (default 60), sanitized, as many at a time as there are CPUs
SECONDS := 60
fuzz:
	@tools/deps build lint
	@$(MAKE) -j$(JOBS) --no-print-directory FLAVOUR=fuzz CC=clang fuzz-build
	@$(MAKE) -j$(JOBS) --output-sync=target --no-print-directory FLAVOUR=fuzz CC=clang fuzz-run

## install: copy programs, library, headers, Python client and example configuration under PREFIX (default /usr/local)
install: $(B)/attnd $(B)/attn
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include/attnd/base \
	    $(DESTDIR)$(PREFIX)/include/attnd/wire $(DESTDIR)$(PREFIX)/share/attnd $(DESTDIR)$(PYTHON_DIR)
	install $(B)/attnd $(B)/attn $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib
	install -m 644 lib/client/attnd_client.h $(DESTDIR)$(PREFIX)/include/attnd
	install -m 644 lib/base/err.h lib/base/shape.h $(DESTDIR)$(PREFIX)/include/attnd/base
	install -m 644 lib/wire/message.h lib/wire/control.h $(DESTDIR)$(PREFIX)/include/attnd/wire
	install -m 644 config/*.yaml lib/wire/README.md $(DESTDIR)$(PREFIX)/share/attnd
	install -m 644 tools/python/attnd/*.py $(DESTDIR)$(PYTHON_DIR)

## uninstall: remove what install copied
uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/bin/attnd $(DESTDIR)$(PREFIX)/bin/attn $(DESTDIR)$(PREFIX)/lib/libattnd.a \
	    $(DESTDIR)$(PREFIX)/include/attnd $(DESTDIR)$(PREFIX)/share/attnd $(DESTDIR)$(PYTHON_DIR)

## clean: remove everything that was built
clean:
	rm -rf build

$(LIBRARY): $(call obj,$(LIB_SRC) $(WORKER_SRC))
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/attnd: $(call obj,$(DAEMON_SRC)) $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/attn: $(call obj,$(TOOL_SRC)) $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/run_tests: $(call obj,$(TEST_SRC) $(DAEMON_LIB) $(TOOL_LIB)) $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcunit

# Vector kernels are unrolled far: what both sanitizers add to them takes compilers minutes. Addresses are what can go wrong there;
# fuzzers feed what eats bytes, which kernels don't.
VECTOR_OBJ    := $(call obj,$(addprefix lib/kernels/,avx2.c avx2_quant.c avx512.c avx512_quant.c avx512_vnni.c avx512_bf16.c) \
                 $(addprefix tests/lib/kernels/,wide.c wide_quant.c))
VECTOR_asan   := -fsanitize=address
VECTOR_tsan   := -fsanitize=thread
VECTOR_coverage := -O1
$(VECTOR_OBJ): CFLAGS := $(filter-out -fsanitize=% --coverage -O0,$(CFLAGS)) $(VECTOR_$(FLAVOUR))

$(O)/%.o: %.c
	@mkdir -p $(dir $@)
	@echo "  CC   $<"
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,$(B)/fuzz_%,$(FUZZ_SRC))

$(B)/fuzz_%: $(O)/tests/fuzz/fuzz_%.o $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

.PHONY: fuzz-build fuzz-run
fuzz-build: $(FUZZERS)
fuzz-run: $(FUZZERS:$(B)/fuzz_%=fuzz-run-%)
fuzz-run-%: $(B)/fuzz_% FORCE
	@mkdir -p $(B)/corpus/$*
	$(Q)$< -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix=$(B)/$*- \
	    $(B)/corpus/$* tests/fuzz/corpus/$*

$(O)/lib/config/builtin.o: config/attnd.yaml # embedded, and unseen by -MMD

-include $(shell find $(O) -name '*.d' 2>/dev/null)
