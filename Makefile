# attnd: builds the daemon (build/attnd), the tools (build/attn) and the tests (build/run_tests).
#
# make FLAVOUR=asan|tsan|coverage builds into build/FLAVOUR with that instrumentation; V=1 shows commands.

FLAVOUR := release
CC      := gcc
PREFIX  := /usr/local
VERSION := 0.1.0

ifeq ($(FLAVOUR),tsan)
CC := clang
endif

PACKAGES := libzmq yaml-0.1 jansson
BLAS     := openblas

OPT_release  := -O2 -g
OPT_asan     := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
OPT_tsan     := -O1 -g -fsanitize=thread
OPT_coverage := -O0 -g --coverage

WARN := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
        -Wwrite-strings -Wformat=2 -Wno-unused-parameter
CFLAGS  := -std=c11 -D_GNU_SOURCE -DATTND_VERSION='"$(VERSION)"' $(OPT_$(FLAVOUR)) $(WARN) -fopenmp -MMD -MP \
           -Ilib -I. $(shell pkg-config --cflags $(PACKAGES) $(BLAS) 2>/dev/null)
LDLIBS  := $(shell pkg-config --libs $(PACKAGES) $(BLAS) 2>/dev/null) -lm -lpthread
LDFLAGS := $(OPT_$(FLAVOUR)) -fopenmp

ifeq ($(FLAVOUR),release)
B := build
else
B := build/$(FLAVOUR)
endif
O := $(B)/obj

LIB_SRC    := $(sort $(wildcard lib/*/*.c))
WORKER_SRC := $(sort $(wildcard workers/*.c))
DAEMON_SRC := $(sort $(wildcard daemon/*.c))
TOOL_SRC   := $(sort $(wildcard tools/*.c tools/*/*.c))
TEST_SRC   := $(sort $(wildcard tests/*.c tests/lib/*/*.c tests/workers/*.c tests/daemon/*.c tests/tools/*.c tests/tools/*/*.c tests/e2e/*.c))
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

.PHONY: all help deps demo test check lint format bench install clean fuzz

## all: build the daemon, the tools and the tests
all: $(B)/attnd $(B)/attn $(B)/run_tests

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

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

$(O)/%.o: %.c
	@mkdir -p $(dir $@)
	@echo "  CC   $<"
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

-include $(shell find $(O) -name '*.d' 2>/dev/null)
